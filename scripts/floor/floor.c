// What the machine can do at best: bare loops that move the bytes a broker moves, and nothing else.
//
//   floor receive SECONDS BYTES FILES DIRECTORY   requests from a socket into files, each answered
//   floor sendfile SECONDS CHUNK FILE...          files into a socket, from the page cache
//   floor echo SECONDS CONNECTIONS BYTES ANSWER   small requests, each answered, on all CPUs
//   floor client SECONDS CONNECTIONS BYTES ANSWER PORT     the client of `echo`, against another
//   floor paced SECONDS CONNECTIONS BYTES ANSWER RATE      `echo` at a fixed rate, open loop: latency
//   floor calibrate                               a fixed piece of work of three kinds
//
// The measured side runs in this process, its client in a child. Prints one line of JSON; CPU is
// that of the measured side alone, user and system. FLOOR_CPU=1 and CLIENT_CPU=0 in the environment
// pin the two sides.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IN_FLIGHT = 5, ANSWER_BYTES = 64, EVENTS = 256, FILE_BYTES_MAX = 1 << 30 };
// Of the paced echo: requests in flight on a connection, and how long the last answers may take.
enum { DUE_MAX = 4096, PATIENCE_SECONDS = 5 };

static void fail(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static double cpu_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void pin(const char *variable) {
    const char *cpu = getenv(variable);
    if (!cpu) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(atoi(cpu), &set);
    if (sched_setaffinity(0, sizeof set, &set)) fail(variable);
}

static void *bytes(size_t count) {
    char *memory = malloc(count);
    if (!memory) fail("memory");
    memset(memory, 'x', count);
    return memory;
}

// A connection is a file; the usual soft limit is below a thousand connections of both sides.
static void allow_files(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int listening(struct sockaddr_in *address) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t length = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || bind(listener, (void *)address, length)) fail("bind");
    if (listen(listener, 1024)) fail("listen");
    if (getsockname(listener, (void *)address, &length)) fail("getsockname");
    return listener;
}

static void no_delay(int socket) {
    int one = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int connected(const struct sockaddr_in *address) {
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (client < 0 || connect(client, (const void *)address, sizeof *address)) fail("connect");
    no_delay(client);
    return client;
}

static int accepted(int listener) {
    int client = accept(listener, NULL, NULL);
    if (client < 0) fail("accept");
    no_delay(client);
    return client;
}

static int sent(int socket, const char *from, size_t count) {
    while (count) {
        ssize_t done = send(socket, from, count, MSG_NOSIGNAL);
        if (done <= 0) return 0;
        from += done;
        count -= done;
    }
    return 1;
}

static void report_bytes(const char *what, double wall, double cpu, double moved,
                         uint64_t requests) {
    printf("{\"what\": \"%s\", \"seconds\": %.4f, \"cpu_seconds\": %.4f, \"bytes\": %.0f, "
           "\"requests\": %llu, \"megabytes_per_second\": %.1f, \"cpu_seconds_per_gb\": %.5f, "
           "\"cpu_us_per_request\": %.4f}\n",
           what, wall, cpu, moved, (unsigned long long)requests, moved / wall / 1e6,
           moved > 0 ? cpu / (moved / 1e9) : 0.0, requests ? cpu / requests * 1e6 : 0.0);
}

// ---- receive ------------------------------------------------------------------------------------

static void receive_client(const struct sockaddr_in *address, size_t size) {
    pin("CLIENT_CPU");
    int server = connected(address);
    char *request = bytes(size), answer[ANSWER_BYTES];
    for (int turn = 0;; turn++) {
        if (turn >= IN_FLIGHT && recv(server, answer, sizeof answer, MSG_WAITALL) <= 0) break;
        if (!sent(server, request, size)) break;
    }
    exit(0);
}

static int fresh_file(const char *directory, int index) {
    char path[4096];
    snprintf(path, sizeof path, "%s/floor-%d", directory, index);
    int file = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0644);
    if (file < 0) fail(path);
    unlink(path);
    return file;
}

static void receive(double seconds, size_t size, int files, const char *directory) {
    struct sockaddr_in address;
    int listener = listening(&address);
    pid_t child = fork();
    if (!child) receive_client(&address, size);
    pin("FLOOR_CPU");
    int client = accepted(listener);
    int *file = calloc(files, sizeof *file);
    off_t *written = calloc(files, sizeof *written);
    if (!file || !written) fail("memory");
    for (int index = 0; index < files; index++) file[index] = fresh_file(directory, index);
    char *buffer = bytes(size), answer[ANSWER_BYTES] = {0};
    double began = now(), cpu = cpu_seconds(), moved = 0;
    uint64_t requests = 0;
    while (now() - began < seconds) {
        if (recv(client, buffer, size, MSG_WAITALL) != (ssize_t)size) fail("recv");
        int turn = requests % files;
        if (write(file[turn], buffer, size) != (ssize_t)size) fail("write");
        if (!sent(client, answer, sizeof answer)) fail("send");
        moved += size;
        requests++;
        // As a log does: a new segment when one is full.
        if ((written[turn] += size) >= FILE_BYTES_MAX) {
            close(file[turn]);
            file[turn] = fresh_file(directory, turn);
            written[turn] = 0;
        }
    }
    report_bytes("receive", now() - began, cpu_seconds() - cpu, moved, requests);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

// ---- sendfile -----------------------------------------------------------------------------------

static void sendfile_client(const struct sockaddr_in *address, size_t size) {
    pin("CLIENT_CPU");
    int server = connected(address);
    char *buffer = bytes(size);
    while (recv(server, buffer, size, 0) > 0) continue;
    exit(0);
}

static void send_files(double seconds, size_t chunk, int count, char **paths) {
    struct sockaddr_in address;
    int listener = listening(&address);
    pid_t child = fork();
    if (!child) sendfile_client(&address, chunk);
    pin("FLOOR_CPU");
    int client = accepted(listener);
    int *file = calloc(count, sizeof *file);
    off_t *size = calloc(count, sizeof *size), *at = calloc(count, sizeof *at), total = 0;
    if (!file || !size || !at) fail("memory");
    for (int index = 0; index < count; index++) {
        struct stat status;
        file[index] = open(paths[index], O_RDONLY);
        if (file[index] < 0 || fstat(file[index], &status)) fail(paths[index]);
        total += size[index] = status.st_size;
    }
    if (!total) fail("nothing in the files");
    double began = now(), cpu = cpu_seconds(), moved = 0;
    uint64_t requests = 0;
    for (int turn = 0; now() - began < seconds; turn = (turn + 1) % count) {
        if (!size[turn]) continue;
        if (at[turn] >= size[turn]) at[turn] = 0;
        ssize_t done = sendfile(client, file[turn], &at[turn], chunk);
        if (done <= 0) fail("sendfile");
        moved += done;
        requests++;
    }
    report_bytes("sendfile", now() - began, cpu_seconds() - cpu, moved, requests);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

// ---- echo ---------------------------------------------------------------------------------------

// One CPU's share of the connections: requests of a fixed size, each answered once it is whole.
struct share {
    pthread_t thread;
    int poll;
    size_t request_bytes, answer_bytes;
    size_t *have;
    volatile uint64_t answered;
};

static void *serve(void *argument) {
    struct share *share = argument;
    struct epoll_event events[EVENTS];
    char *buffer = bytes(share->request_bytes + 1), *answer = bytes(share->answer_bytes);
    for (;;) {
        int ready = epoll_wait(share->poll, events, EVENTS, -1);
        for (int index = 0; index < ready; index++) {
            int client = events[index].data.fd;
            size_t wanted = share->request_bytes - share->have[client];
            ssize_t got = recv(client, buffer, wanted, MSG_DONTWAIT);
            if (got <= 0) {
                if (got == 0 || errno != EAGAIN)
                    epoll_ctl(share->poll, EPOLL_CTL_DEL, client, NULL);
                continue;
            }
            share->have[client] += got;
            if (share->have[client] < share->request_bytes) continue;
            share->have[client] = 0;
            if (sent(client, answer, share->answer_bytes)) share->answered++;
        }
    }
    return NULL;
}

// One request in flight on each connection, until `end` (0: for ever); how many were answered.
static uint64_t ask(const struct sockaddr_in *address, int count, size_t size, size_t answer,
                    double end) {
    pin("CLIENT_CPU");
    int poll = epoll_create1(0);
    char *request = bytes(size), *buffer = bytes(answer);
    int *server = calloc(count, sizeof *server);
    size_t *have = calloc(count + 4096, sizeof *have);
    uint64_t answers = 0;
    if (poll < 0 || !server || !have) fail("client");
    for (int index = 0; index < count; index++) {
        server[index] = connected(address);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = server[index]};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, server[index], &event)) fail("epoll_ctl");
    }
    for (int index = 0; index < count; index++) sent(server[index], request, size);
    struct epoll_event events[EVENTS];
    while (end == 0 || now() < end) {
        int ready = epoll_wait(poll, events, EVENTS, 1000);
        for (int index = 0; index < ready; index++) {
            int socket = events[index].data.fd;
            ssize_t got = recv(socket, buffer, answer - have[socket], MSG_DONTWAIT);
            if (got == 0 || (got < 0 && errno != EAGAIN)) exit(0);
            if (got < 0 || (have[socket] += got) < answer) continue;
            have[socket] = 0;
            answers++;
            if (!sent(socket, request, size)) exit(0);
        }
    }
    return answers;
}

static uint64_t answered(const struct share *shares, int count) {
    uint64_t total = 0;
    for (int index = 0; index < count; index++) total += shares[index].answered;
    return total;
}

// Accepts `connections`, spread over a thread for each CPU that answers; how many threads that is.
static int serve_all(int listener, int connections, size_t size, size_t answer,
                     struct share **all) {
    pin("FLOOR_CPU");
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    int threads = CPU_COUNT(&set) < connections ? CPU_COUNT(&set) : connections;
    struct share *shares = *all = calloc(threads, sizeof *shares);
    if (!shares) fail("memory");
    for (int index = 0; index < threads; index++) {
        shares[index].poll = epoll_create1(0);
        shares[index].request_bytes = size;
        shares[index].answer_bytes = answer;
        shares[index].have = calloc(connections + 4096, sizeof(size_t));
        if (shares[index].poll < 0 || !shares[index].have) fail("echo");
    }
    for (int index = 0; index < connections; index++) {
        int client = accepted(listener);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = client};
        int poll = shares[index % threads].poll;
        if (epoll_ctl(poll, EPOLL_CTL_ADD, client, &event)) fail("epoll_ctl");
    }
    for (int index = 0; index < threads; index++)
        if (pthread_create(&shares[index].thread, NULL, serve, &shares[index])) fail("thread");
    return threads;
}

static void echo(double seconds, int connections, size_t size, size_t answer) {
    struct sockaddr_in address;
    int listener = listening(&address);
    pid_t child = fork();
    if (!child) return (void)ask(&address, connections, size, answer, 0);
    struct share *shares;
    int threads = serve_all(listener, connections, size, answer, &shares);
    usleep(300 * 1000);
    uint64_t first = answered(shares, threads);
    double began = now(), cpu = cpu_seconds();
    usleep((useconds_t)(seconds * 1e6));
    uint64_t requests = answered(shares, threads) - first;
    cpu = cpu_seconds() - cpu;
    double wall = now() - began;
    printf("{\"what\": \"echo\", \"seconds\": %.4f, \"cpu_seconds\": %.4f, \"requests\": %llu, "
           "\"requests_per_second\": %.1f, \"cpu_us_per_request\": %.4f}\n",
           wall, cpu, (unsigned long long)requests, requests / wall,
           requests ? cpu / requests * 1e6 : 0.0);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

// The client's side alone, against a server that somebody else runs and measures.
static void client(double seconds, int connections, size_t size, size_t answer, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    double began = now();
    uint64_t requests = ask(&address, connections, size, answer, began + seconds);
    double wall = now() - began;
    printf("{\"what\": \"client\", \"seconds\": %.4f, \"requests\": %llu, "
           "\"requests_per_second\": %.1f}\n",
           wall, (unsigned long long)requests, requests / wall);
}

// ---- paced --------------------------------------------------------------------------------------

// Requests on one connection that were not answered yet: when each was due.
struct waiting {
    double due[DUE_MAX];
    uint64_t sent, answered;
    size_t have;
};

static int by_size(const void *left, const void *right) {
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

static double quantile_us(const double *sorted, size_t count, double share) {
    size_t at = (size_t)(count * share);
    return count ? sorted[at < count ? at : count - 1] * 1e6 : 0;
}

// What has come on a connection; adds the latencies of whole answers, from when each was due.
static size_t settle(struct waiting *one, int socket, size_t answer, double *latencies) {
    char buffer[4096];
    ssize_t got = recv(socket, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) fail("the echo ended");
    if (got < 0) return 0;
    double moment = now();
    size_t whole = 0;
    for (one->have += got; one->have >= answer; one->have -= answer)
        latencies[whole++] = moment - one->due[one->answered++ % DUE_MAX];
    return whole;
}

// Sends at fixed moments whatever the answers do, as the client of a broker at a fixed rate does.
static void ask_paced(const struct sockaddr_in *address, double seconds, int count, size_t size,
                      size_t answer, double rate) {
    pin("CLIENT_CPU");
    uint64_t total = (uint64_t)(seconds * rate), asked = 0, answers = 0;
    double *latencies = calloc(total + DUE_MAX, sizeof *latencies);
    struct waiting *each = calloc(count, sizeof *each);
    int poll = epoll_create1(0), *server = calloc(count, sizeof *server);
    char *request = bytes(size);
    if (poll < 0 || !latencies || !each || !server) fail("client");
    for (int index = 0; index < count; index++) {
        server[index] = connected(address);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, server[index], &event)) fail("epoll_ctl");
    }
    struct epoll_event events[EVENTS];
    double began = now() + 0.1, end = began + seconds + PATIENCE_SECONDS;
    while (answers < total && now() < end) {
        for (double due; asked < total && (due = began + asked / rate) <= now(); asked++) {
            struct waiting *one = &each[asked % count];
            if (one->sent - one->answered == DUE_MAX) fail("the echo does not keep up");
            one->due[one->sent++ % DUE_MAX] = due;
            if (!sent(server[asked % count], request, size)) fail("send");
        }
        double rest = asked < total ? began + asked / rate - now() : 0.01;
        struct timespec pause = {.tv_nsec = rest <= 0 ? 0 : rest > 0.5 ? 500000000 : rest * 1e9};
        int ready = epoll_pwait2(poll, events, EVENTS, &pause, NULL);
        for (int index = 0; index < ready; index++) {
            uint32_t at = events[index].data.u32;
            answers += settle(&each[at], server[at], answer, latencies + answers);
        }
    }
    qsort(latencies, answers, sizeof *latencies, by_size);
    printf("{\"what\": \"paced\", \"requests\": %llu, \"asked\": %llu, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"p99_9_us\": %.1f, \"max_us\": %.1f}\n",
           (unsigned long long)answers, (unsigned long long)total,
           quantile_us(latencies, answers, 0.5), quantile_us(latencies, answers, 0.99),
           quantile_us(latencies, answers, 0.999), quantile_us(latencies, answers, 1));
}

static void paced(double seconds, int connections, size_t size, size_t answer, double rate) {
    struct sockaddr_in address;
    int listener = listening(&address), status;
    pid_t child = fork();
    if (!child) return ask_paced(&address, seconds, connections, size, answer, rate);
    struct share *shares;
    serve_all(listener, connections, size, answer, &shares);
    if (waitpid(child, &status, 0) != child || status) exit(1);
}

// ---- calibrate ----------------------------------------------------------------------------------

static double arithmetic(void) {
    double began = now();
    uint64_t state = 88172645463325252ull;
    for (int turn = 0; turn < 100 * 1000 * 1000; turn++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    double took = now() - began;
    return state ? took : 0;
}

static double copying(void) {
    size_t size = 64 << 20;
    char *from = bytes(size), *to = bytes(size);
    double began = now();
    for (int turn = 0; turn < 16; turn++) {
        from[turn] = (char)turn;
        memcpy(to, from, size);
    }
    double took = now() - began;
    if (to[15] != 15) took = 0;
    free(from);
    free(to);
    return took;
}

// Mean time of a byte to another process and back.
static double waking(void) {
    int pair[2], turns = 20 * 1000;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) fail("socketpair");
    pid_t child = fork();
    char byte = 0;
    if (!child) {
        close(pair[0]);
        while (read(pair[1], &byte, 1) == 1 && write(pair[1], &byte, 1) == 1) continue;
        exit(0);
    }
    close(pair[1]);
    double began = now();
    for (int turn = 0; turn < turns; turn++)
        if (write(pair[0], &byte, 1) != 1 || read(pair[0], &byte, 1) != 1) fail("waking");
    double took = (now() - began) / turns;
    close(pair[0]);
    waitpid(child, NULL, 0);
    return took;
}

static void calibrate(void) {
    double work = arithmetic(), copied = copying(), woke = waking();
    printf("{\"what\": \"calibrate\", \"arithmetic_ms\": %.2f, \"copy_ms\": %.2f, "
           "\"wake_us\": %.3f}\n",
           work * 1e3, copied * 1e3, woke * 1e6);
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    allow_files();
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    const char *mode = count > 1 ? words[1] : "";
    double seconds = count > 2 ? atof(words[2]) : 0;
    if (!strcmp(mode, "receive") && count == 6 && atoi(words[4]) > 0) {
        receive(seconds, strtoul(words[3], NULL, 10), atoi(words[4]), words[5]);
    } else if (!strcmp(mode, "sendfile") && count > 4) {
        send_files(seconds, strtoul(words[3], NULL, 10), count - 4, words + 4);
    } else if (!strcmp(mode, "echo") && count == 6) {
        echo(seconds, atoi(words[3]), strtoul(words[4], NULL, 10), strtoul(words[5], NULL, 10));
    } else if (!strcmp(mode, "client") && count == 7) {
        client(seconds, atoi(words[3]), strtoul(words[4], NULL, 10), strtoul(words[5], NULL, 10),
               atoi(words[6]));
    } else if (!strcmp(mode, "paced") && count == 7 && atoi(words[3]) > 0 && atof(words[6]) > 0) {
        paced(seconds, atoi(words[3]), strtoul(words[4], NULL, 10), strtoul(words[5], NULL, 10),
              atof(words[6]));
    } else if (!strcmp(mode, "calibrate")) {
        calibrate();
    } else {
        fprintf(stderr, "floor: see the head of floor.c\n");
        return 2;
    }
    return 0;
}
