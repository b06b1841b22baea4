import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Group members of Apache's Java client in one JVM, told what to do by lines on standard input.
 *
 * "start NAME BOOTSTRAP GROUP TOPIC[,TOPIC] key=value..." starts a member that reads and commits
 * after every batch of records; "stop NAME" closes it; "end" closes all and leaves.
 * Standard output has a line for everything that happens: "NAME assigned t-0,t-1",
 * "NAME read t-0 OFFSET", "NAME committed t-0 OFFSET", "NAME failed WORDS", "NAME stopped".
 */
public final class SideMembers {
    private static final class Member extends Thread {
        private final String name;
        private final Map<String, Object> settings;
        private final List<String> topics;
        private volatile boolean stopping;

        Member(String name, Map<String, Object> settings, List<String> topics) {
            super(name);
            this.name = name;
            this.settings = settings;
            this.topics = topics;
        }

        @Override
        public void run() {
            try (KafkaConsumer<String, byte[]> consumer = new KafkaConsumer<>(settings)) {
                consumer.subscribe(topics);
                String before = "";
                Map<TopicPartition, OffsetAndMetadata> open = new HashMap<>();
                while (!stopping) {
                    for (ConsumerRecord<String, byte[]> row : consumer.poll(Duration.ofMillis(100))) {
                        TopicPartition key = new TopicPartition(row.topic(), row.partition());
                        say(name + " read " + key + " " + row.offset());
                        open.put(key, new OffsetAndMetadata(row.offset() + 1, row.leaderEpoch(), "by " + name));
                    }
                    String now = shown(consumer);
                    if (!now.equals(before)) {
                        say(name + " assigned " + now);
                        before = now;
                    }
                    open.keySet().retainAll(consumer.assignment());
                    if (!open.isEmpty()) {
                        try {
                            consumer.commitSync(open, Duration.ofSeconds(5));
                            open.forEach((key, value) -> say(name + " committed " + key + " " + value.offset()));
                            open.clear();
                        } catch (RuntimeException error) {
                            say(name + " retries " + error.getClass().getSimpleName());
                        }
                    }
                }
            } catch (Exception error) {
                say(name + " failed " + error);
            }
            say(name + " stopped");
        }

        private static String shown(KafkaConsumer<String, byte[]> consumer) {
            List<String> parts = new ArrayList<>();
            consumer.assignment().forEach(part -> parts.add(part.toString()));
            parts.sort(null);
            return parts.isEmpty() ? "-" : String.join(",", parts);
        }
    }

    private static synchronized void say(String words) {
        System.out.println(words);
        System.out.flush();
    }

    public static void main(String[] args) throws Exception {
        Map<String, Member> members = new TreeMap<>();
        BufferedReader lines =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("start")) {
                Map<String, Object> settings = new HashMap<>();
                settings.put("bootstrap.servers", words[2]);
                settings.put("group.id", words[3]);
                settings.put("client.id", words[1]);
                settings.put("enable.auto.commit", "false");
                settings.put("auto.offset.reset", "earliest");
                settings.put("key.deserializer", StringDeserializer.class);
                settings.put("value.deserializer", ByteArrayDeserializer.class);
                settings.put("reconnect.backoff.max.ms", "200");
                for (int i = 5; i < words.length; i++) {
                    String[] pair = words[i].split("=", 2);
                    settings.put(pair[0], pair[1]);
                }
                Member member = new Member(words[1], settings, List.of(words[4].split(",")));
                members.put(words[1], member);
                member.start();
            } else if (words[0].equals("stop")) {
                Member member = members.remove(words[1]);
                member.stopping = true;
                member.join(15000);
            } else {
                break;
            }
        }
        members.values().forEach(member -> member.stopping = true);
        for (Member member : members.values()) {
            member.join(10000);
        }
        Runtime.getRuntime().halt(0);
    }
}
