import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Members of groups with the Java consumer, a thread each, as many as are started. The commands and
 * events are those of group_member.py; every command but `start` names its member.
 */
public final class GroupMembers {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration POLL = Duration.ofMillis(100);
    private static final Duration COMMIT = Duration.ofSeconds(5);

    private GroupMembers() {
    }

    public static void main(String[] words) throws Exception {
        Map<String, Member> members = new HashMap<>();
        var commands =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            JsonNode command = JSON.readTree(line);
            String name = command.get("name").asText();
            if (command.get("do").asText().equals("start")) {
                Member member = new Member(name, command);
                members.put(name, member);
                new Thread(member, name).start();
            } else {
                members.get(name).commands.add(command);
            }
        }
        // Whoever started this is gone: so are the members, without a word to the broker.
        Runtime.getRuntime().halt(0);
    }

    /** One consumer and its thread. */
    private static final class Member implements Runnable, ConsumerRebalanceListener {
        final BlockingQueue<JsonNode> commands = new LinkedBlockingQueue<>();
        private final String name;
        private final JsonNode wanted;
        private final Map<TopicPartition, OffsetAndMetadata> uncommitted = new HashMap<>();
        private KafkaConsumer<byte[], byte[]> consumer;

        Member(String name, JsonNode wanted) {
            this.name = name;
            this.wanted = wanted;
        }

        private void say(String event, Object... pairs) {
            Map<String, Object> line = new LinkedHashMap<>();
            Instant now = Instant.now();
            line.put("at", now.getEpochSecond() + now.getNano() / 1e9);
            line.put("member", name);
            line.put("event", event);
            for (int i = 0; i < pairs.length; i += 2) {
                line.put((String) pairs[i], pairs[i + 1]);
            }
            try {
                String text = JSON.writeValueAsString(line);
                synchronized (GroupMembers.class) {
                    System.out.println(text);
                    System.out.flush();
                }
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        }

        private static List<String> names(Collection<TopicPartition> partitions) {
            return partitions.stream().map(p -> p.topic() + ":" + p.partition()).sorted().toList();
        }

        @Override
        public void run() {
            try {
                open();
                for (boolean running = true; running;) {
                    JsonNode command = commands.poll();
                    if (command == null) {
                        read();
                    } else if (command.get("do").asText().equals("pause")) {
                        say("pausing");
                        Thread.sleep(command.get("ms").asLong());
                        say("resumed");
                    } else {
                        running = false;
                    }
                }
                commit(uncommitted.keySet());
                say("stopping");
                consumer.close();
                say("stopped");
            } catch (Throwable e) {
                say("error", "text", e + " " + Arrays.toString(e.getStackTrace()), "fatal", true);
            }
        }

        private void open() {
            Map<String, Object> settings = new HashMap<>();
            settings.put("bootstrap.servers", wanted.get("bootstrap").asText());
            settings.put("group.id", wanted.get("group").asText());
            settings.put("enable.auto.commit", false);
            settings.put("auto.offset.reset", "earliest");
            settings.put("max.poll.interval.ms", wanted.get("max_poll_ms").asInt());
            settings.put("metadata.max.age.ms", 2000);
            settings.put("fetch.max.wait.ms", 200);
            String protocol = wanted.get("protocol").asText();
            String assignor = wanted.get("assignor").asText();
            settings.put("group.protocol", protocol);
            if (protocol.equals("consumer")) {
                settings.put("group.remote.assignor", assignor);
            } else {
                String kind = assignor.equals("range") ? "Range" : "CooperativeSticky";
                settings.put("partition.assignment.strategy",
                    "org.apache.kafka.clients.consumer." + kind + "Assignor");
                settings.put("session.timeout.ms", wanted.get("session_ms").asInt());
                settings.put("heartbeat.interval.ms", wanted.get("heartbeat_ms").asInt());
            }
            if (wanted.hasNonNull("instance")) {
                settings.put("group.instance.id", wanted.get("instance").asText());
            }
            consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(),
                new ByteArrayDeserializer());
            if (wanted.hasNonNull("pattern")) {
                consumer.subscribe(new SubscriptionPattern(wanted.get("pattern").asText()), this);
            } else {
                consumer.subscribe(List.of(JSON.convertValue(wanted.get("topics"), String[].class)),
                    this);
            }
        }

        private void read() {
            var polled = consumer.poll(POLL);
            for (TopicPartition partition : polled.partitions()) {
                List<ConsumerRecord<byte[], byte[]>> rows = polled.records(partition);
                long first = rows.get(0).offset();
                long next = first;
                for (ConsumerRecord<byte[], byte[]> row : rows) {
                    String value = new String(row.value(), StandardCharsets.US_ASCII);
                    if (row.offset() != next || !value.equals("" + next)) {
                        say("error", "text", partition + ": " + value + " at " + row.offset()
                            + " where " + next + " was due", "fatal", true);
                    }
                    next = row.offset() + 1;
                }
                say("records", "partition", partition.topic() + ":" + partition.partition(),
                    "first", first, "last", next - 1);
                uncommitted.put(partition, new OffsetAndMetadata(next));
            }
            commit(uncommitted.keySet());
        }

        private void commit(Collection<TopicPartition> partitions) {
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>(uncommitted);
            offsets.keySet().retainAll(List.copyOf(partitions));
            if (offsets.isEmpty()) {
                return;
            }
            Map<String, Long> said = new TreeMap<>();
            offsets.forEach((p, o) -> said.put(p.topic() + ":" + p.partition(), o.offset()));
            try {
                consumer.commitSync(offsets, COMMIT);
            } catch (org.apache.kafka.common.KafkaException e) {
                say("commit_failed", "offsets", said, "error", e.toString());
                return;
            }
            say("committed", "offsets", said);
            uncommitted.keySet().removeAll(offsets.keySet());
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            var group = consumer.groupMetadata();
            say("assigned", "partitions", names(partitions), "generation", group.generationId(),
                "id", group.memberId());
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            commit(partitions);
            uncommitted.keySet().removeAll(partitions);
            say("revoked", "partitions", names(partitions));
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            uncommitted.keySet().removeAll(partitions);
            say("lost", "partitions", names(partitions));
        }
    }
}
