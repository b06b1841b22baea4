import java.io.FileInputStream;
import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import java.util.TreeSet;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.StateRestoreListener;

/**
 * Counts words with Kafka Streams: one instance of the application, until SIGTERM.
 *
 * WordCount PROPERTIES INPUT OUTPUT. Counts are strings, by word. Prints what the test looks for:
 * "#state NAME", "#tasks ACTIVE,..." when they change, "#restored TOPIC-PARTITION COUNT".
 */
public final class WordCount {
    private static final class Restores implements StateRestoreListener {
        @Override
        public void onRestoreStart(TopicPartition from, String store, long begin, long end) { }

        @Override
        public void onBatchRestored(TopicPartition from, String store, long last, long count) { }

        @Override
        public void onRestoreEnd(TopicPartition from, String store, long total) {
            System.out.println("#restored " + from + " " + total);
        }
    }

    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        try (FileInputStream file = new FileInputStream(args[0])) {
            settings.load(file);
        }
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(args[1], Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.with("by-word", Serdes.String(), Serdes.String()))
            .count(Materialized.as("counts"))
            .toStream()
            .mapValues(count -> Long.toString(count))
            .to(args[2], Produced.with(Serdes.String(), Serdes.String()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.setGlobalStateRestoreListener(new Restores());
        streams.setStateListener((now, before) -> System.out.println("#state " + now));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
        streams.start();
        String shown = "";
        while (streams.state() != KafkaStreams.State.ERROR
            && streams.state() != KafkaStreams.State.NOT_RUNNING) {
            TreeSet<String> tasks = new TreeSet<>();
            streams.metadataForLocalThreads().forEach(thread ->
                thread.activeTasks().forEach(task -> tasks.add(task.taskId().toString())));
            String line = "#tasks " + String.join(",", tasks);
            if (!line.equals(shown)) {
                System.out.println(line);
                shown = line;
            }
            Thread.sleep(100);
        }
        System.exit(streams.state() == KafkaStreams.State.ERROR ? 1 : 0);
    }
}
