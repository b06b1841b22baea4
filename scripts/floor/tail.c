// A consumer that keeps up at the end of a topic, by raw Fetch requests in an incremental session.
//
//   tail PORT TOPIC PARTITIONS SECONDS
//
// Cheap, so that what is measured beside it is the broker. Fetch v11: from offset 0 of a new topic
// on, at least one byte, waiting up to 500 ms; after the first request only partitions whose
// position has moved are named. Prints one line of JSON: answers with and without records.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FETCH = 1, VERSION = 11, WAIT_MS = 500, BYTES_MAX = 1 << 20, PARTITIONS_MAX = 1000 };

static char request[64 * 1024], *answer;
static size_t request_end, answer_end, answer_at;

static void fail(const char *what) {
    fprintf(stderr, "tail: %s: %s\n", what, errno ? strerror(errno) : "not expected");
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void put(uint64_t value, int count) {
    if (request_end + count > sizeof request) fail("request too large");
    while (count--) request[request_end++] = (char)(value >> (8 * count));
}

static void put_string(const char *text) {
    put(strlen(text), 2);
    if (request_end + strlen(text) > sizeof request) fail("request too large");
    memcpy(request + request_end, text, strlen(text));
    request_end += strlen(text);
}

static const char *skip(size_t count) {
    if (count > answer_end - answer_at) fail("answer too short");
    answer_at += count;
    return answer + answer_at - count;
}

static int64_t get(int count) {
    const unsigned char *from = (const unsigned char *)skip(count);
    uint64_t value = from[0] & 0x80 ? ~0ull : 0;
    for (int index = 0; index < count; index++) value = value << 8 | from[index];
    return (int64_t)value;
}

static void read_answer(int broker) {
    unsigned char length[4];
    if (recv(broker, length, 4, MSG_WAITALL) != 4) fail("recv");
    size_t size = (size_t)length[0] << 24 | length[1] << 16 | length[2] << 8 | length[3];
    if (size > 256u << 20) fail("answer too large");
    if (!(answer = realloc(answer, size))) fail("memory");
    if (recv(broker, answer, size, MSG_WAITALL) != (ssize_t)size) fail("recv");
    answer_end = size;
    answer_at = 4;
}

static int64_t position[PARTITIONS_MAX];
static char moved[PARTITIONS_MAX];

static void ask(int broker, const char *topic, int partitions, int32_t session, int32_t epoch) {
    int named = 0;
    for (int index = 0; index < partitions; index++) named += moved[index] != 0;
    request_end = 4;
    put(FETCH, 2), put(VERSION, 2), put((uint32_t)epoch, 4), put_string("tail");
    put(UINT32_MAX, 4), put(WAIT_MS, 4), put(1, 4), put(8 * BYTES_MAX, 4), put(0, 1);
    put((uint32_t)session, 4), put((uint32_t)epoch, 4);
    put(named ? 1 : 0, 4);
    if (named) {
        put_string(topic);
        put(named, 4);
    }
    for (int index = 0; index < partitions; index++) {
        if (!moved[index]) continue;
        put(index, 4), put(UINT32_MAX, 4), put(position[index], 8), put(UINT64_MAX, 8);
        put(BYTES_MAX, 4);
        moved[index] = 0;
    }
    put(0, 4), put_string("");
    size_t end = request_end;
    request_end = 0;
    put(end - 4, 4);
    if (send(broker, request, end, MSG_NOSIGNAL) != (ssize_t)end) fail("send");
}

// The next offset behind the batches from `raw` on; counts their records.
static int64_t behind(const char *raw, size_t size, int64_t next, uint64_t *records) {
    size_t kept_at = answer_at, end = raw - answer + size;
    for (size_t at = raw - answer; at + 61 <= end;) {
        answer_at = at;
        int64_t base = get(8), length = get(4);
        if (length < 49 || at + 12 + length > end) break;
        skip(11);
        next = base + get(4) + 1;
        answer_at = at + 57;
        *records += get(4);
        at += 12 + length;
    }
    answer_at = kept_at;
    return next;
}

int main(int count, char **words) {
    if (count != 5 || atoi(words[3]) < 1 || atoi(words[3]) > PARTITIONS_MAX) {
        fprintf(stderr, "tail: see the head of tail.c\n");
        return 2;
    }
    const char *topic = words[2];
    int partitions = atoi(words[3]), broker = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(broker, (void *)&address, sizeof address)) fail("connect");
    setsockopt(broker, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    memset(moved, 1, sizeof moved);
    uint64_t fetches = 0, empty = 0, records = 0, bytes = 0;
    int32_t session = 0, epoch = 0;
    double began = now(), end = began + atof(words[4]);
    while (now() < end) {
        ask(broker, topic, partitions, session, epoch);
        read_answer(broker);
        skip(4);
        int64_t error = get(2);
        if (error) {
            fprintf(stderr, "tail: error %lld\n", (long long)error);
            return 1;
        }
        session = (int32_t)get(4);
        epoch++;
        uint64_t before = records;
        for (int64_t topics = get(4); topics > 0; topics--) {
            skip(get(2));
            for (int64_t rows = get(4); rows > 0; rows--) {
                int64_t index = get(4), code = get(2);
                if (index < 0 || index >= partitions || code) fail("partition's answer");
                skip(24);
                for (int64_t aborted = get(4); aborted > 0; aborted--) skip(16);
                skip(4);
                int64_t size = get(4);
                if (size <= 0) continue;
                const char *raw = skip(size);
                int64_t next = behind(raw, size, position[index], &records);
                moved[index] = next != position[index];
                position[index] = next;
                bytes += size;
            }
        }
        if (records > before) fetches++;
        else empty++;
    }
    printf("{\"what\": \"tail\", \"seconds\": %.4f, \"fetches\": %llu, \"empty\": %llu, "
           "\"records\": %llu, \"bytes\": %llu}\n",
           now() - began, (unsigned long long)fetches, (unsigned long long)empty,
           (unsigned long long)records, (unsigned long long)bytes);
    return 0;
}
