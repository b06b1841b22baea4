import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs the main methods of many command line tools, one after the other, in one JVM.
 *
 * One request per line on standard input, fields in base64, separated by blanks:
 * class name, seconds allowed, file for the tool's standard input (or empty), arguments.
 * One answer per line on standard output: exit code, output, error output (the last two in base64).
 * Exit code 124 means that the time was up; the driver ends then, for the tool may still run.
 */
public final class ToolDriver {
    /** Thrown in place of leaving the JVM. */
    private static final class Left extends RuntimeException {
        Left() {
            super(null, null, false, false);
        }
    }

    /** The code of the first attempt to leave; some tools catch `Left` and complain about it. */
    private static final AtomicReference<Integer> LEFT = new AtomicReference<>();

    private static final List<Runnable> HOOKS = new CopyOnWriteArrayList<>();

    /** A stream whose target changes; libraries keep the first System.out they see. */
    private static final class Switch extends OutputStream {
        private ByteArrayOutputStream target = new ByteArrayOutputStream();

        @Override
        public synchronized void write(int b) {
            if (LEFT.get() == null) {
                target.write(b);
            }
        }

        @Override
        public synchronized void write(byte[] bytes, int from, int count) {
            if (LEFT.get() == null) {
                target.write(bytes, from, count);
            }
        }

        synchronized byte[] take() {
            byte[] bytes = target.toByteArray();
            target = new ByteArrayOutputStream();
            return bytes;
        }
    }

    public static void main(String[] args) throws Exception {
        PrintStream answers = new PrintStream(new FileOutputStream(FileDescriptor.out), true, "UTF-8");
        BufferedReader requests =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Switch out = new Switch();
        Switch err = new Switch();
        PrintStream outStream = new PrintStream(out, true, "UTF-8");
        PrintStream errStream = new PrintStream(err, true, "UTF-8");
        System.setOut(outStream);
        System.setErr(errStream);
        Exit.Procedure leave = (code, message) -> {
            outStream.flush();
            errStream.flush();
            LEFT.compareAndSet(null, code);
            throw new Left();
        };
        Exit.setExitProcedure(leave);
        Exit.setHaltProcedure(leave);
        // The console producer sends what it holds from such a hook: they run when a tool ends.
        Exit.setShutdownHookAdder((name, hook) -> HOOKS.add(hook));
        ExecutorService runner = Executors.newCachedThreadPool(task -> {
            Thread thread = new Thread(task, "tool");
            thread.setDaemon(true);
            return thread;
        });
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            int code = run(runner, line.split(" ", -1), errStream);
            outStream.flush();
            errStream.flush();
            Base64.Encoder base64 = Base64.getEncoder();
            answers.println(code + " " + base64.encodeToString(out.take()) + " "
                + base64.encodeToString(err.take()));
            if (code == 124) {
                Runtime.getRuntime().halt(124);
            }
        }
        Runtime.getRuntime().halt(0);
    }

    private static int run(ExecutorService runner, String[] fields, PrintStream err) throws Exception {
        String[] words = new String[fields.length];
        for (int i = 0; i < fields.length; i++) {
            words[i] = new String(Base64.getDecoder().decode(fields[i]), StandardCharsets.UTF_8);
        }
        String[] toolArgs = java.util.Arrays.copyOfRange(words, 3, words.length);
        InputStream input = words[2].isEmpty()
            ? new ByteArrayInputStream(new byte[0]) : new FileInputStream(words[2]);
        System.setIn(input);
        LEFT.set(null);
        Future<Integer> done = runner.submit(() -> call(words[0], toolArgs, err));
        try {
            return done.get(Long.parseLong(words[1]), TimeUnit.SECONDS);
        } catch (TimeoutException e) {
            return 124;
        } catch (ExecutionException e) {
            e.getCause().printStackTrace(err);
            return 125;
        } finally {
            input.close();
        }
    }

    private static int call(String name, String[] args, PrintStream err) throws Exception {
        try {
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) args);
            return 0;
        } catch (InvocationTargetException e) {
            if (LEFT.get() != null) {
                return LEFT.get();
            }
            err.println("uncaught: " + e.getCause());
            return 1;
        } finally {
            for (Runnable hook : HOOKS) {
                hook.run();
            }
            HOOKS.clear();
        }
    }
}
