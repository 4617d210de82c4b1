/* A disk that is slow or fails, for one process: put before the C library by LD_PRELOAD.
 *
 * TEST_DISK_DIR names a directory; TEST_DISK_CONTROL a file with a struct control, which the tests write while the
 * process runs. What is asked of files below the directory whose path holds `part` is delayed or refused with EIO as it
 * says there, and counted. Everything else goes on to the C library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* tests/cluster/netns/disk.py has the same. */
struct control {
    _Atomic uint32_t slow;  /* Milliseconds that each sync takes longer. */
    _Atomic uint32_t sync;  /* 1: syncs fail. */
    _Atomic uint32_t write; /* 1: writes fail. */
    _Atomic uint32_t read;  /* 1: reads fail. */
    _Atomic uint32_t slowed, unsynced, unwritten, unread; /* How often each of them came about. */
    char part[64];
};

static struct control *control;
static const char *dir;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("TEST_DISK_CONTROL");
    dir = getenv("TEST_DISK_DIR");
    if (path == NULL || dir == NULL)
        return;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return;
    void *at = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (at != MAP_FAILED)
        control = at;
}

/* Is this one of the files that it is about? */
static int is_meant(int file)
{
    char name[32], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t len = readlink(name, path, sizeof path - 1);
    if (len <= 0)
        return 0;
    path[len] = 0;
    return strncmp(path, dir, strlen(dir)) == 0 && strstr(path, control->part) != NULL;
}

/* Refuses, if it is to. */
static int refuses(_Atomic uint32_t *on, _Atomic uint32_t *count, int file)
{
    int before = errno;
    if (!*on || !is_meant(file)) {
        errno = before;
        return 0;
    }
    ++*count;
    errno = EIO;
    return 1;
}

#define NEXT(kind, name, ...)                              \
    static kind (*next)(__VA_ARGS__);                      \
    if (next == NULL)                                      \
        next = (kind (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int fails(int file)
{
    if (control == NULL)
        return 0;
    if (control->slow && is_meant(file)) {
        ++control->slowed;
        struct timespec time = { control->slow / 1000, control->slow % 1000 * 1000000L };
        nanosleep(&time, NULL);
    }
    return refuses(&control->sync, &control->unsynced, file);
}

#define SYNC(call)                        \
    int call(int file)                    \
    {                                     \
        NEXT(int, #call, int);            \
        return fails(file) ? -1 : next(file); \
    }
SYNC(fsync)
SYNC(fdatasync)

#define NO_READ(file) (control != NULL && refuses(&control->read, &control->unread, file))
#define NO_WRITE(file) (control != NULL && refuses(&control->write, &control->unwritten, file))

ssize_t read(int file, void *to, size_t len)
{
    NEXT(ssize_t, "read", int, void *, size_t);
    return NO_READ(file) ? -1 : next(file, to, len);
}

ssize_t readv(int file, const struct iovec *to, int count)
{
    NEXT(ssize_t, "readv", int, const struct iovec *, int);
    return NO_READ(file) ? -1 : next(file, to, count);
}

ssize_t write(int file, const void *from, size_t len)
{
    NEXT(ssize_t, "write", int, const void *, size_t);
    return NO_WRITE(file) ? -1 : next(file, from, len);
}

ssize_t writev(int file, const struct iovec *from, int count)
{
    NEXT(ssize_t, "writev", int, const struct iovec *, int);
    return NO_WRITE(file) ? -1 : next(file, from, count);
}

#define READ_AT(call, offset_kind)                                        \
    ssize_t call(int file, void *to, size_t len, offset_kind at)          \
    {                                                                     \
        NEXT(ssize_t, #call, int, void *, size_t, offset_kind);           \
        return NO_READ(file) ? -1 : next(file, to, len, at);              \
    }
READ_AT(pread, off_t)
READ_AT(pread64, off64_t)

#define WRITE_AT(call, offset_kind)                                       \
    ssize_t call(int file, const void *from, size_t len, offset_kind at)  \
    {                                                                     \
        NEXT(ssize_t, #call, int, const void *, size_t, offset_kind);     \
        return NO_WRITE(file) ? -1 : next(file, from, len, at);           \
    }
WRITE_AT(pwrite, off_t)
WRITE_AT(pwrite64, off64_t)

#define RESIZE(call, offset_kind)                                         \
    int call(int file, offset_kind len)                                   \
    {                                                                     \
        NEXT(int, #call, int, offset_kind);                               \
        return NO_WRITE(file) ? -1 : next(file, len);                     \
    }
RESIZE(ftruncate, off_t)
RESIZE(ftruncate64, off64_t)

#define ALLOCATE(call, offset_kind)                                       \
    int call(int file, int mode, offset_kind at, offset_kind len)         \
    {                                                                     \
        NEXT(int, #call, int, int, offset_kind, offset_kind);             \
        return NO_WRITE(file) ? -1 : next(file, mode, at, len);           \
    }
ALLOCATE(fallocate, off_t)
ALLOCATE(fallocate64, off64_t)
