import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.Exit;

/**
 * Writes and reads back with the Java clients at their defaults (an idempotent producer), reading
 * assigned partitions. The records follow from a seed, by the rules of records.py.
 */
public final class RecordsClient {
    private final String bootstrap;
    private final String prefix;
    private final int partitions;
    private final int records;
    private final long seed;

    private RecordsClient(Map<String, String> args) {
        bootstrap = args.get("bootstrap");
        prefix = args.get("prefix");
        partitions = Integer.parseInt(args.getOrDefault("partitions", "4"));
        records = Integer.parseInt(args.getOrDefault("records", "100000"));
        seed = Long.parseLong(args.getOrDefault("seed", "1"));
    }

    public static void main(String[] words) throws Exception {
        Map<String, String> args = new HashMap<>();
        for (int i = 0; i + 1 < words.length; i += 2) {
            args.put(words[i].substring(2), words[i + 1]);
        }
        RecordsClient client = new RecordsClient(args);
        String mode = args.getOrDefault("mode", "write,read");
        for (String codec : args.getOrDefault("codecs", "none,gzip,snappy,lz4,zstd").split(",")) {
            long began = System.nanoTime();
            if (mode.contains("write")) {
                client.write(codec);
            }
            long written = System.nanoTime();
            String digest = mode.contains("read") ? client.read(codec) : "-";
            long done = System.nanoTime();
            System.out.printf("%s %.2f %.2f %s%n", codec, (written - began) / 1e9,
                (done - written) / 1e9, digest);
        }
    }

    private static long mix(long seed) {
        long z = seed + 0x9E3779B97F4A7C15L;
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }

    private static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.US_ASCII);
    }

    private ProducerRecord<byte[], byte[]> record(String topic, int index) {
        long h = mix(seed + index);
        byte[] raw = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(h).array();
        byte[] key = (h & 7) == 0 ? null : (h & 7) == 1 ? new byte[0] : ascii("key-" + index);
        byte[] value = null;
        int kind = (int) ((h >>> 3) & 15);
        if (kind == 1 || kind == 0 && key == null && seed % 2 == 0) {
            value = new byte[0];
        } else if (kind != 0) {
            byte[] head = ascii("value-" + index + "-");
            int size = (int) ((h >>> 8) % 200);
            value = Arrays.copyOf(head, head.length + size);
            for (int i = 0; i < size; i++) {
                value[head.length + i] = raw[i % 8];
            }
        }
        List<Header> headers = new ArrayList<>();
        int count = (int) ((h >>> 40) % 4);
        if (count > 0) {
            headers.add(new RecordHeader("trace", ascii("" + index)));
        }
        if (count > 1) {
            headers.add(new RecordHeader("trace", Arrays.copyOf(raw, 4)));
        }
        if (count > 2) {
            headers.add(new RecordHeader("nil", seed % 2 == 0 ? new byte[0] : null));
        }
        long timestamp = 1_700_000_000_000L + (h >>> 20) % 1_000_000;
        return new ProducerRecord<>(topic, index % partitions, timestamp, key, value, headers);
    }

    private void write(String codec) throws Exception {
        String topic = prefix + "-" + codec;
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("compression.type", codec);
        AtomicReference<Exception> failed = new AtomicReference<>();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings,
            new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int i = 0; i < records; i++) {
                producer.send(record(topic, i), (metadata, error) -> {
                    if (error != null) {
                        failed.compareAndSet(null, error);
                    }
                });
            }
            producer.flush();
        }
        if (failed.get() != null) {
            fail(topic + ": " + failed.get());
        }
    }

    private String read(String codec) throws Exception {
        String topic = prefix + "-" + codec;
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("enable.auto.commit", false);
        settings.put("auto.offset.reset", "none");
        settings.put("max.poll.records", 20_000);
        MessageDigest[] digests = new MessageDigest[partitions];
        int[] next = new int[partitions];
        int left = records;
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings,
            new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> assigned = new ArrayList<>();
            for (int p = 0; p < partitions; p++) {
                assigned.add(new TopicPartition(topic, p));
                digests[p] = MessageDigest.getInstance("SHA-256");
            }
            consumer.assign(assigned);
            consumer.seekToBeginning(assigned);
            long idleSince = System.nanoTime();
            while (left > 0) {
                var polled = consumer.poll(Duration.ofMillis(500));
                if (!polled.isEmpty()) {
                    idleSince = System.nanoTime();
                } else if (System.nanoTime() - idleSince > 20_000_000_000L) {
                    fail(topic + ": nothing came for 20 s, " + left + " records are missing");
                }
                for (ConsumerRecord<byte[], byte[]> got : polled) {
                    int p = got.partition();
                    check(got, next[p]);
                    next[p]++;
                    left--;
                    digests[p].update(digestBytes(got));
                }
            }
        }
        MessageDigest all = MessageDigest.getInstance("SHA-256");
        for (MessageDigest digest : digests) {
            all.update(digest.digest());
        }
        StringBuilder hex = new StringBuilder();
        for (byte b : Arrays.copyOf(all.digest(), 8)) {
            hex.append(String.format("%02x", b));
        }
        return hex.toString();
    }

    private void check(ConsumerRecord<byte[], byte[]> got, int due) {
        String at = got.topic() + "-" + got.partition() + " offset " + got.offset();
        if (got.offset() != due) {
            fail(at + ": offset " + due + " was due");
        }
        var want = record(got.topic(), due * partitions + got.partition());
        Header[] headers = got.headers().toArray();
        Header[] wanted = want.headers().toArray();
        boolean same = Arrays.equals(want.key(), got.key())
            && Arrays.equals(want.value(), got.value())
            && want.timestamp() == got.timestamp()
            && wanted.length == headers.length;
        for (int i = 0; same && i < headers.length; i++) {
            same = Objects.equals(wanted[i].key(), headers[i].key())
                && Arrays.equals(wanted[i].value(), headers[i].value());
        }
        if (!same) {
            fail(at + ": read " + got + ", wrote " + want);
        }
    }

    private static byte[] digestBytes(ConsumerRecord<byte[], byte[]> got) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(bytes);
        sized(out, got.key());
        sized(out, got.value());
        out.writeLong(got.timestamp());
        Header[] headers = got.headers().toArray();
        out.writeInt(headers.length);
        for (Header header : headers) {
            sized(out, header.key().getBytes(StandardCharsets.UTF_8));
            sized(out, header.value());
        }
        return bytes.toByteArray();
    }

    private static void sized(DataOutputStream out, byte[] field) throws Exception {
        out.writeInt(field == null ? -1 : field.length);
        if (field != null) {
            out.write(field);
        }
    }

    private static void fail(String words) {
        System.out.println(words);
        Exit.exit(1);
    }
}
