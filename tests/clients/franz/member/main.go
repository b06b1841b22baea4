// Command member is a group member with franz-go: range, cooperative-sticky, static members, and the
// server's assignors. The commands and events are those of group_member.py.
//
// franz-go has no max.poll.interval.ms: its heartbeats go on whatever the program does.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type command struct {
	Do          string   `json:"do"`
	Name        string   `json:"name"`
	Bootstrap   string   `json:"bootstrap"`
	Group       string   `json:"group"`
	Topics      []string `json:"topics"`
	Protocol    string   `json:"protocol"`
	Assignor    string   `json:"assignor"`
	Instance    string   `json:"instance"`
	SessionMs   int      `json:"session_ms"`
	HeartbeatMs int      `json:"heartbeat_ms"`
	MaxPollMs   int      `json:"max_poll_ms"`
	Ms          int      `json:"ms"`
}

type fields map[string]any

type member struct {
	wanted command
	client *kgo.Client
	output sync.Mutex
	// Rebalance calls come from another goroutine than polls, never at the same time.
	uncommitted map[string]int64
}

func (m *member) say(event string, more fields) {
	line := fields{"at": float64(time.Now().UnixMicro()) / 1e6, "member": m.wanted.Name}
	line["event"] = event
	maps.Copy(line, more)
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	m.output.Lock()
	defer m.output.Unlock()
	fmt.Println(string(text))
}

func names(partitions map[string][]int32) []string {
	out := []string{}
	for topic, numbers := range partitions {
		for _, number := range numbers {
			out = append(out, fmt.Sprintf("%s:%d", topic, number))
		}
	}
	slices.Sort(out)
	return out
}

func (m *member) options() []kgo.Opt {
	w := m.wanted
	options := []kgo.Opt{
		kgo.SeedBrokers(w.Bootstrap),
		kgo.ConsumerGroup(w.Group),
		kgo.ConsumeTopics(w.Topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.FetchMaxWait(200 * time.Millisecond),
		kgo.MetadataMaxAge(2 * time.Second),
		kgo.MetadataMinAge(500 * time.Millisecond),
		kgo.SessionTimeout(time.Duration(w.SessionMs) * time.Millisecond),
		kgo.HeartbeatInterval(time.Duration(w.HeartbeatMs) * time.Millisecond),
		kgo.RebalanceTimeout(time.Duration(w.MaxPollMs) * time.Millisecond),
		kgo.OnPartitionsAssigned(m.assigned),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
			m.commit(names(gone))
			m.givenUp("revoked", names(gone))
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
			m.givenUp("lost", names(gone))
		}),
	}
	switch {
	case w.Assignor == "range":
		options = append(options, kgo.Balancers(kgo.RangeBalancer()))
	case w.Protocol == "consumer":
		options = append(options, kgo.Balancers(kgo.StickyBalancer()))
	default:
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	}
	if w.Protocol == "consumer" {
		options = append(options, kgo.ServerSideBalancer())
	}
	if w.Instance != "" {
		options = append(options, kgo.InstanceID(w.Instance))
	}
	return options
}

func (m *member) assigned(_ context.Context, client *kgo.Client, added map[string][]int32) {
	id, generation := client.GroupMetadata()
	m.say("assigned", fields{"partitions": names(added), "generation": generation, "id": id})
}

func (m *member) givenUp(event string, partitions []string) {
	for _, name := range partitions {
		delete(m.uncommitted, name)
	}
	m.say(event, fields{"partitions": partitions})
}

// commit commits what was read of these partitions, or of all.
func (m *member) commit(partitions []string) {
	if partitions == nil {
		partitions = slices.Collect(maps.Keys(m.uncommitted))
	}
	offsets := map[string]int64{}
	request := map[string]map[int32]kgo.EpochOffset{}
	for _, name := range partitions {
		offset, found := m.uncommitted[name]
		if !found {
			continue
		}
		offsets[name] = offset
		colon := strings.LastIndexByte(name, ':')
		number, _ := strconv.Atoi(name[colon+1:])
		if request[name[:colon]] == nil {
			request[name[:colon]] = map[int32]kgo.EpochOffset{}
		}
		request[name[:colon]][int32(number)] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	if len(offsets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var failed error
	m.client.CommitOffsetsSync(ctx, request, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest,
		answer *kmsg.OffsetCommitResponse, err error) {
		failed = err
		if err != nil {
			return
		}
		for _, topic := range answer.Topics {
			for _, partition := range topic.Partitions {
				if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
					failed = err
				}
			}
		}
	})
	if failed != nil {
		m.say("commit_failed", fields{"offsets": offsets, "error": failed.Error()})
		return
	}
	m.say("committed", fields{"offsets": offsets})
	for name := range offsets {
		delete(m.uncommitted, name)
	}
}

func (m *member) poll() {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	fetches := m.client.PollFetches(ctx)
	cancel()
	fetches.EachError(func(topic string, partition int32, err error) {
		if err != context.DeadlineExceeded {
			m.say("error", fields{"text": fmt.Sprintf("%s:%d %v", topic, partition, err)})
		}
	})
	fetches.EachPartition(func(rows kgo.FetchTopicPartition) {
		if len(rows.Records) == 0 {
			return
		}
		name := fmt.Sprintf("%s:%d", rows.Topic, rows.Partition)
		first := rows.Records[0].Offset
		next := first
		for _, row := range rows.Records {
			if row.Offset != next || string(row.Value) != strconv.FormatInt(next, 10) {
				text := fmt.Sprintf("%s: %s at %d, due %d", name, row.Value, row.Offset, next)
				m.say("error", fields{"text": text, "fatal": true})
			}
			next = row.Offset + 1
		}
		m.say("records", fields{"partition": name, "first": first, "last": next - 1})
		m.uncommitted[name] = next
	})
	m.commit(nil)
	m.client.AllowRebalance()
}

func (m *member) leave() {
	m.client.AllowRebalance()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := m.client.LeaveGroupContext(ctx); err != nil {
		m.say("error", fields{"text": "leaving: " + err.Error()})
	}
	m.client.Close()
}

func (m *member) run(commands <-chan command) {
	for {
		select {
		case next, open := <-commands:
			if !open || next.Do == "stop" {
				m.say("stopping", nil)
				m.leave()
				m.say("stopped", nil)
				return
			}
			m.say("pausing", nil)
			time.Sleep(time.Duration(next.Ms) * time.Millisecond)
			m.say("resumed", nil)
		default:
			m.poll()
		}
	}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Scan()
	m := &member{uncommitted: map[string]int64{}}
	if err := json.Unmarshal(lines.Bytes(), &m.wanted); err != nil {
		panic(err)
	}
	var err error
	commands := make(chan command, 16)
	go func() {
		for lines.Scan() {
			var next command
			if json.Unmarshal(lines.Bytes(), &next) == nil {
				commands <- next
			}
		}
		close(commands)
	}()
	m.client, err = kgo.NewClient(m.options()...)
	if err != nil {
		m.say("error", fields{"text": err.Error(), "fatal": true})
		os.Exit(1)
	}
	m.run(commands)
}
