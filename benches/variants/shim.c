/* What a broker would cost with other socket settings, without building it anew: put before its libc by LD_PRELOAD.
 *
 *   gcc -O2 -shared -fPIC -o shim.so shim.c -ldl
 *
 *   TUNE_NAGLE=1        TCP_NODELAY is not set
 *   TUNE_SNDBUF=BYTES   SO_SNDBUF of accepted connections
 *   TUNE_RCVBUF=BYTES   SO_RCVBUF of accepted connections
 *   TUNE_SEND=BYTES     the most that one write takes
 *   TUNE_RECV=BYTES     the most that one read gives
 *   TUNE_NO_GSO=1       UDP_SEGMENT and UDP_GRO are refused, as by an old kernel
 *   TUNE_MMSG=N         the most datagrams of one recvmmsg
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

static long nagle, sndbuf, rcvbuf, most_sent, most_read, no_gso, mmsg;
static int (*real_setsockopt)(int, int, int, const void *, socklen_t);
static int (*real_accept4)(int, struct sockaddr *, socklen_t *, int);
static ssize_t (*real_send)(int, const void *, size_t, int);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_recv)(int, void *, size_t, int);
static int (*real_recvmmsg)(int, struct mmsghdr *, unsigned int, int, struct timespec *);

static long number(const char *name)
{
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

__attribute__((constructor)) static void begin(void)
{
    real_setsockopt = dlsym(RTLD_NEXT, "setsockopt");
    real_accept4 = dlsym(RTLD_NEXT, "accept4");
    real_send = dlsym(RTLD_NEXT, "send");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_recv = dlsym(RTLD_NEXT, "recv");
    real_recvmmsg = dlsym(RTLD_NEXT, "recvmmsg");
    nagle = number("TUNE_NAGLE");
    sndbuf = number("TUNE_SNDBUF");
    rcvbuf = number("TUNE_RCVBUF");
    most_sent = number("TUNE_SEND");
    most_read = number("TUNE_RECV");
    no_gso = number("TUNE_NO_GSO");
    mmsg = number("TUNE_MMSG");
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    if (nagle && level == IPPROTO_TCP && name == TCP_NODELAY)
        return 0;
    if (no_gso && level == IPPROTO_UDP && (name == UDP_SEGMENT || name == UDP_GRO)) {
        errno = ENOPROTOOPT;
        return -1;
    }
    return real_setsockopt(fd, level, name, value, length);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    int client = real_accept4(fd, address, length, flags);
    int size = (int)sndbuf;
    if (client >= 0 && sndbuf)
        real_setsockopt(client, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    size = (int)rcvbuf;
    if (client >= 0 && rcvbuf)
        real_setsockopt(client, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return client;
}

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    if (most_sent && length > (size_t)most_sent)
        length = (size_t)most_sent;
    return real_send(fd, bytes, length, flags);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (most_sent && count > 0) {
        struct iovec one = parts[0];
        if (one.iov_len > (size_t)most_sent)
            one.iov_len = (size_t)most_sent;
        return real_writev(fd, &one, 1);
    }
    return real_writev(fd, parts, count);
}

ssize_t recv(int fd, void *bytes, size_t length, int flags)
{
    if (most_read && length > (size_t)most_read)
        length = (size_t)most_read;
    return real_recv(fd, bytes, length, flags);
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout)
{
    if (mmsg && count > (unsigned int)mmsg)
        count = (unsigned int)mmsg;
    return real_recvmmsg(fd, messages, count, flags, timeout);
}
