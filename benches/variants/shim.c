/* What a broker would cost with other socket settings, without building it anew: put before its libc by LD_PRELOAD.
 *
 *   gcc -O2 -shared -fPIC -o shim.so shim.c -ldl
 *
 *   TUNE_NAGLE=1        TCP_NODELAY is not set
 *   TUNE_SNDBUF=BYTES   SO_SNDBUF of accepted connections
 *   TUNE_RCVBUF=BYTES   SO_RCVBUF of accepted connections
 *   TUNE_NO_GSO=1       UDP_SEGMENT and UDP_GRO are refused, as by an old kernel
 *   TUNE_MMSG=N         the most datagrams of one recvmmsg
 *
 * Sizes of reads and writes cannot be tried so: after a short one tokio waits for the socket to become ready again.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/socket.h>

static long nagle, sndbuf, rcvbuf, no_gso, mmsg;
static int (*real_setsockopt)(int, int, int, const void *, socklen_t);
static int (*real_accept4)(int, struct sockaddr *, socklen_t *, int);
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
    real_recvmmsg = dlsym(RTLD_NEXT, "recvmmsg");
    nagle = number("TUNE_NAGLE");
    sndbuf = number("TUNE_SNDBUF");
    rcvbuf = number("TUNE_RCVBUF");
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

int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout)
{
    if (mmsg && count > (unsigned int)mmsg)
        count = (unsigned int)mmsg;
    return real_recvmmsg(fd, messages, count, flags, timeout);
}
