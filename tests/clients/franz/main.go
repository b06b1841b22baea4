// Command franz writes and reads back with franz-go: an idempotent producer, assigned partitions.
// The records follow from a seed, by the rules of records.py.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"hash"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	bootstrap  = flag.String("bootstrap", "", "HOST:PORT")
	prefix     = flag.String("prefix", "", "topics are PREFIX-CODEC")
	partitions = flag.Int("partitions", 4, "partitions of each topic")
	records    = flag.Int("records", 100000, "records to each topic")
	seed       = flag.Uint64("seed", 1, "the records follow from it")
	codecs     = flag.String("codecs", "none,gzip,snappy,lz4,zstd", "compression codecs")
	mode       = flag.String("mode", "write,read", "what to do")
)

var compression = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func fail(format string, words ...any) {
	fmt.Printf(format+"\n", words...)
	os.Exit(1)
}

func mix(seed uint64) uint64 {
	z := seed + 0x9E3779B97F4A7C15
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
	z = (z ^ (z >> 27)) * 0x94D049BB133111EB
	return z ^ (z >> 31)
}

func record(topic string, index int) *kgo.Record {
	h := mix(*seed + uint64(index))
	raw := binary.LittleEndian.AppendUint64(nil, h)
	var key, value []byte
	switch h & 7 {
	case 0:
	case 1:
		key = []byte{}
	default:
		key = fmt.Appendf(nil, "key-%d", index)
	}
	switch (h >> 3) & 15 {
	case 0:
		if key == nil && *seed%2 == 0 {
			value = []byte{}
		}
	case 1:
		value = []byte{}
	default:
		size := int((h >> 8) % 200)
		value = fmt.Appendf(nil, "value-%d-", index)
		value = append(value, bytes.Repeat(raw, size/8+1)[:size]...)
	}
	headers := []kgo.RecordHeader{
		{Key: "trace", Value: fmt.Appendf(nil, "%d", index)},
		{Key: "trace", Value: raw[:4]},
		{Key: "nil"},
	}[:(h>>40)%4]
	if *seed%2 == 0 && len(headers) == 3 {
		headers[2].Value = []byte{}
	}
	return &kgo.Record{
		Topic:     topic,
		Partition: int32(index % *partitions),
		Timestamp: time.UnixMilli(1_700_000_000_000 + int64((h>>20)%1_000_000)),
		Key:       key,
		Value:     value,
		Headers:   headers,
	}
}

func write(codec string) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(*bootstrap),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(compression[codec]),
		kgo.ProducerLinger(5*time.Millisecond),
	)
	if err != nil {
		fail("%v", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var failed atomic.Pointer[error]
	for i := range *records {
		client.Produce(ctx, record(*prefix+"-"+codec, i), func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		fail("flush: %v", err)
	}
	if err := failed.Load(); err != nil {
		fail("%s: %v", codec, *err)
	}
}

func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func check(got *kgo.Record, due int) {
	at := fmt.Sprintf("%s-%d offset %d", got.Topic, got.Partition, got.Offset)
	if got.Offset != int64(due) {
		fail("%s: offset %d was due", at, due)
	}
	want := record(got.Topic, due**partitions+int(got.Partition))
	equal := same(want.Key, got.Key) && same(want.Value, got.Value) &&
		want.Timestamp.Equal(got.Timestamp) && len(want.Headers) == len(got.Headers)
	for i := 0; equal && i < len(want.Headers); i++ {
		equal = want.Headers[i].Key == got.Headers[i].Key &&
			same(want.Headers[i].Value, got.Headers[i].Value)
	}
	if !equal {
		fail("%s: read %v, wrote %v", at, got, want)
	}
}

func sized(out []byte, field []byte) []byte {
	size := uint32(len(field))
	if field == nil {
		size = 0xFFFFFFFF
	}
	return append(binary.BigEndian.AppendUint32(out, size), field...)
}

func digestBytes(got *kgo.Record) []byte {
	out := sized(sized(nil, got.Key), got.Value)
	out = binary.BigEndian.AppendUint64(out, uint64(got.Timestamp.UnixMilli()))
	out = binary.BigEndian.AppendUint32(out, uint32(len(got.Headers)))
	for _, header := range got.Headers {
		out = sized(sized(out, []byte(header.Key)), header.Value)
	}
	return out
}

func read(codec string) string {
	topic := *prefix + "-" + codec
	offsets := map[int32]kgo.Offset{}
	digests := make([]hash.Hash, *partitions)
	for p := range *partitions {
		offsets[int32(p)] = kgo.NewOffset().At(0)
		digests[p] = sha256.New()
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(*bootstrap),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}),
	)
	if err != nil {
		fail("%v", err)
	}
	defer client.Close()
	next := make([]int, *partitions)
	for left := *records; left > 0; {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		for _, e := range fetches.Errors() {
			fail("%s-%d: %v; %d records are missing", e.Topic, e.Partition, e.Err, left)
		}
		fetches.EachRecord(func(got *kgo.Record) {
			check(got, next[got.Partition])
			next[got.Partition]++
			digests[got.Partition].Write(digestBytes(got))
			left--
		})
	}
	all := sha256.New()
	for _, digest := range digests {
		all.Write(digest.Sum(nil))
	}
	return fmt.Sprintf("%x", all.Sum(nil)[:8])
}

func main() {
	flag.Parse()
	for codec := range strings.SplitSeq(*codecs, ",") {
		began := time.Now()
		if strings.Contains(*mode, "write") {
			write(codec)
		}
		written := time.Now()
		digest := "-"
		if strings.Contains(*mode, "read") {
			digest = read(codec)
		}
		fmt.Printf("%s %.2f %.2f %s\n", codec, written.Sub(began).Seconds(),
			time.Since(written).Seconds(), digest)
	}
}
