/* A phone that answers every SIP request with 200 OK as fast as loopback allows, so that a benchmark measures
 * the sender. One UDP socket on 127.0.0.1, datagrams in batches of recvmmsg and sendmmsg.
 *
 *     responder PORT [--log FILE]        PORT 0: the kernel chooses
 *
 * Prints "port N" when it is ready, and at SIGTERM or SIGINT "requests N distinct M ignored K cpu S": distinct counts
 * Call-IDs, so requests minus distinct are retransmissions (or transactions that share one), ignored counts what is
 * no SIP request or does not fit, and S seconds of CPU tell whether it was the bottleneck after all. FILE gets one line for each request: the time the kernel received it
 * (CLOCK_REALTIME, microseconds), a blank, and the user part of the Request-URI ("-" if there is none).
 * Ends by itself when its parent does. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

enum {
    LOOKS = 400,            /* empty looks at the socket, about 0.4 us each, before it sleeps */
    BATCH = 128,            /* datagrams of one system call */
    ROOM = 4096,            /* bytes of one datagram; a larger one is ignored */
    SOCKET_BUFFER = 1 << 24 /* the kernel lowers it to net.core.[rw]mem_max unless we are root */
};

struct piece {
    const char *start;
    size_t length;
};

static volatile sig_atomic_t stopped;
static uint64_t requests, ignored, distinct;

/* Set of the 64-bit hashes of the Call-IDs seen: open addressing, doubled when half full. */
static uint64_t *seen;
static size_t seen_slots;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static size_t slot_of(const uint64_t *table, size_t slots, uint64_t hash)
{
    size_t slot = hash & (slots - 1);
    while (table[slot] != 0 && table[slot] != hash)
        slot = (slot + 1) & (slots - 1);
    return slot;
}

static void remember(struct piece call_id)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a, then the finish of MurmurHash3 to spread the low bits */
    for (size_t i = 0; i < call_id.length; i++)
        hash = (hash ^ (unsigned char)call_id.start[i]) * 0x100000001b3u;
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdu;
    hash ^= hash >> 33;
    if (hash == 0)
        hash = 1;
    size_t slot = slot_of(seen, seen_slots, hash);
    if (seen[slot] != 0)
        return;
    seen[slot] = hash;
    if (++distinct * 2 <= seen_slots)
        return;
    uint64_t *larger = calloc(seen_slots * 2, sizeof *larger);
    if (larger == NULL)
        fail("calloc");
    for (size_t i = 0; i < seen_slots; i++)
        if (seen[i] != 0)
            larger[slot_of(larger, seen_slots * 2, seen[i])] = seen[i];
    free(seen);
    seen = larger;
    seen_slots *= 2;
}

/* Return the next header field of [*at, end) with its folded lines and without its last CRLF; length 0 at the end. */
static struct piece next_field(const char **at, const char *end)
{
    struct piece field = {*at, 0};
    const char *scan = *at;
    for (;;) {
        const char *newline = memchr(scan, '\n', (size_t)(end - scan));
        if (newline == NULL) { /* cut short: take what is there */
            *at = end;
            field.length = (size_t)(end - field.start);
            return field;
        }
        scan = newline + 1;
        if (scan == end || (*scan != ' ' && *scan != '\t') || newline - field.start <= 1) {
            *at = scan;
            field.length = (size_t)(newline - field.start);
            if (field.length > 0 && field.start[field.length - 1] == '\r')
                field.length--;
            return field;
        }
    }
}

static int named(struct piece field, const char *name, size_t length)
{
    if (field.length <= length || strncasecmp(field.start, name, length) != 0)
        return 0;
    while (length < field.length && (field.start[length] == ' ' || field.start[length] == '\t'))
        length++;
    return length < field.length && field.start[length] == ':';
}

#define IS(field, name) named((field), (name), sizeof(name) - 1)

/* Write the response to `reply`, which holds ROOM bytes; returns its length, 0 for what deserves no answer. */
static size_t answer(const char *request, size_t size, char *reply, struct piece *user)
{
    static const char status[] = "SIP/2.0 200 OK\r\n", last[] = "Content-Length: 0\r\n\r\n";
    const char *at = request, *end = request + size;
    struct piece line = next_field(&at, end);
    if (line.length < 16 || memcmp(line.start, "SIP/", 4) == 0 || memcmp(line.start, "ACK ", 4) == 0 ||
        memcmp(line.start + line.length - 8, " SIP/2.0", 8) != 0)
        return 0;
    user->length = 0;
    const char *blank = memchr(line.start, ' ', line.length);
    const char *colon = memchr(blank, ':', (size_t)(line.start + line.length - blank));
    if (colon != NULL) {
        const char *host = memchr(colon, '@', (size_t)(line.start + line.length - colon));
        if (host != NULL)
            *user = (struct piece){colon + 1, (size_t)(host - colon - 1)};
    }
    size_t used = sizeof status - 1;
    memcpy(reply, status, used);
    int copied = 0;
    for (;;) {
        struct piece field = next_field(&at, end);
        if (field.length == 0)
            break;
        int to = IS(field, "To") || IS(field, "t"), call_id = IS(field, "Call-ID") || IS(field, "i");
        if (!to && !call_id && !IS(field, "Via") && !IS(field, "v") && !IS(field, "From") && !IS(field, "f") &&
            !IS(field, "CSeq"))
            continue;
        if (used + field.length + sizeof last + 40 > ROOM)
            return 0;
        memcpy(reply + used, field.start, field.length);
        used += field.length;
        if (to && memmem(field.start, field.length, ";tag=", 5) == NULL)
            used += (size_t)sprintf(reply + used, ";tag=p%llx", (unsigned long long)requests);
        memcpy(reply + used, "\r\n", 2);
        used += 2;
        copied++;
        if (call_id)
            remember(field);
    }
    if (copied < 5) /* Via, From, To, Call-ID and CSeq are mandatory (RFC 3261 8.1.1) */
        return 0;
    memcpy(reply + used, last, sizeof last - 1);
    return used + sizeof last - 1;
}

static void enlarge(int fd, int forced, int plain)
{
    int size = SOCKET_BUFFER;
    if (setsockopt(fd, SOL_SOCKET, forced, &size, sizeof size) != 0)
        setsockopt(fd, SOL_SOCKET, plain, &size, sizeof size);
}

static int open_socket(int port, int timestamps)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval patience = {.tv_usec = 200000}; /* so that a signal between two reads is noticed */
    socklen_t length = sizeof local;
    local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&local, sizeof local) != 0 ||
        getsockname(fd, (struct sockaddr *)&local, &length) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &timestamps, sizeof timestamps) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0)
        fail("socket");
    enlarge(fd, SO_RCVBUFFORCE, SO_RCVBUF);
    enlarge(fd, SO_SNDBUFFORCE, SO_SNDBUF);
    printf("port %d\n", ntohs(local.sin_port));
    fflush(stdout);
    return fd;
}

static void write_log(FILE *log, struct msghdr *header, struct piece user)
{
    struct timespec at = {0};
    for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item != NULL; item = CMSG_NXTHDR(header, item))
        if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_TIMESTAMPNS)
            memcpy(&at, CMSG_DATA(item), sizeof at);
    fprintf(log, "%lld%06ld %.*s\n", (long long)at.tv_sec, at.tv_nsec / 1000, user.length ? (int)user.length : 1,
            user.length ? user.start : "-");
}

static void serve(int fd, FILE *log)
{
    static char received[BATCH][ROOM], replies[BATCH][ROOM];
    static _Alignas(struct cmsghdr) char control[BATCH][128];
    static struct sockaddr_in peers[BATCH];
    static struct iovec in[BATCH], out[BATCH];
    static struct mmsghdr heard[BATCH], said[BATCH];
    while (!stopped) {
        for (int i = 0; i < BATCH; i++) {
            in[i] = (struct iovec){received[i], ROOM};
            heard[i].msg_hdr = (struct msghdr){.msg_name = &peers[i], .msg_namelen = sizeof peers[i],
                                               .msg_iov = &in[i], .msg_iovlen = 1,
                                               .msg_control = log ? control[i] : NULL,
                                               .msg_controllen = log ? sizeof control[i] : 0};
        }
        /* Waking a sleeper costs the sender of a datagram on loopback 5 to 10 us, which no phone on a network would cost
         * it: look again for a while before sleeping. The bare loop gains nothing by it, it never lets us sleep. */
        int count = -1, ready = 0;
        for (int look = 0; look < LOOKS && count < 0 && !stopped; look++) {
            count = recvmmsg(fd, heard, BATCH, MSG_DONTWAIT, NULL);
            if (count < 0)
                sched_yield();
        }
        if (count < 0)
            count = recvmmsg(fd, heard, BATCH, MSG_WAITFORONE, NULL);
        if (count < 0 && errno != EINTR && errno != EAGAIN)
            fail("recvmmsg");
        for (int i = 0; i < count; i++) {
            struct piece user = {NULL, 0};
            size_t size = 0;
            if (!(heard[i].msg_hdr.msg_flags & MSG_TRUNC))
                size = answer(received[i], heard[i].msg_len, replies[ready], &user);
            if (size == 0) {
                ignored++;
                continue;
            }
            requests++;
            if (log)
                write_log(log, &heard[i].msg_hdr, user);
            out[ready] = (struct iovec){replies[ready], size};
            said[ready].msg_hdr = (struct msghdr){.msg_name = &peers[i], .msg_namelen = sizeof peers[i],
                                                  .msg_iov = &out[ready], .msg_iovlen = 1};
            ready++;
        }
        for (int sent = 0; sent < ready && !stopped;) {
            int done = sendmmsg(fd, said + sent, (unsigned)(ready - sent), 0);
            sent += done > 0 ? done : errno == EINTR ? 0 : 1; /* a peer that cannot be reached is passed over */
        }
    }
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = stop};
    FILE *log = NULL;
    if (argc != 2 && !(argc == 4 && strcmp(argv[2], "--log") == 0)) {
        fprintf(stderr, "usage: responder PORT [--log FILE]\n");
        return 2;
    }
    if (argc == 4 && ((log = fopen(argv[3], "w")) == NULL || setvbuf(log, NULL, _IOFBF, 1 << 20) != 0))
        fail(argv[3]);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    seen_slots = 1 << 16;
    if ((seen = calloc(seen_slots, sizeof *seen)) == NULL)
        fail("calloc");
    serve(open_socket(atoi(argv[1]), log != NULL), log);
    if (log && fclose(log) != 0)
        fail("log");
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("requests %llu distinct %llu ignored %llu cpu %.3f\n", (unsigned long long)requests,
           (unsigned long long)distinct, (unsigned long long)ignored,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    return 0;
}
