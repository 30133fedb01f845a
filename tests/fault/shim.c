/* Loaded before libc (LD_PRELOAD): counts the calls that change files below a folder, and fails at one of them.
 *
 * So every write, sync, rename and removal of whatever library can be the last thing a process does, or be refused,
 * and the code under test knows nothing of it. See children.py. In a trace a line is the call and its path, of a rename
 * both; `write+sync` is a write that returns when it is on the disk, `open` makes nothing new.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { KILL = 1, TEAR = 2, REFUSE = 3 };

static char folder[PATH_MAX];
static int armed, action, trace_fd = -1;
static long first, last;
static atomic_long calls;

void fault_arm(const char *below, long first_call, long last_call, int what, int trace) {
    strncpy(folder, below, sizeof folder - 1);
    first = first_call, last = last_call, action = what, trace_fd = trace;
    atomic_store(&calls, 0);
    armed = 1;
}

void fault_disarm(void) { armed = 0; }

long fault_calls(void) { return atomic_load(&calls); }

static int is_below(const char *path) { return strncmp(path, folder, strlen(folder)) == 0; }

static int of_descriptor(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[size < 0 ? 0 : size] = 0;
    return size > 0;
}

/* Counts a call on a path; gives what is to become of it, 0 = let it pass. */
static int hit(const char *call, const char *path) {
    if (!is_below(path)) return 0;
    long number = atomic_fetch_add(&calls, 1);
    if (trace_fd >= 0) {
        char line[2 * PATH_MAX + 64];
        int size = snprintf(line, sizeof line, "%s %s\n", call, path + strlen(folder));
        syscall(SYS_write, trace_fd, line, size);
    }
    if (number < first || number > last) return 0;
    if (action == KILL) syscall(SYS_kill, getpid(), SIGKILL);
    return action;
}

static int hit_descriptor(const char *call, int fd) {
    char path[PATH_MAX];
    return armed && of_descriptor(fd, path) ? hit(call, path) : 0;
}

static int hit_write(int fd) {
    if (!armed) return 0;
    return hit_descriptor(syscall(SYS_fcntl, fd, F_GETFL) & O_DSYNC ? "write+sync" : "write", fd);
}

static int hit_at(const char *call, int directory, const char *name) {
    char path[2 * PATH_MAX];
    if (!armed) return 0;
    if (name[0] == '/' || directory == AT_FDCWD) return hit(call, name);
    if (!of_descriptor(directory, path)) return 0;
    strcat(path, "/");
    strncat(path, name, PATH_MAX - 1);
    return hit(call, path);
}

/* A sync that fails says EIO, everything else that the disk is full. */
static int refuse(int number) {
    errno = number;
    return -1;
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); }

/* A call that makes a file or folder, unless it is there. */
static int hit_make(const char *call, const char *path) {
    int is_there = armed && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
    return hit_at(is_there ? "open" : call, AT_FDCWD, path);
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    int what = hit_write(fd);
    if (what == REFUSE) return refuse(ENOSPC);
    if (what == TEAR) real(fd, data, size / 2), die();
    return real(fd, data, size);
}

#define POSITIONED_WRITE(name, offset_type)                               \
    ssize_t name(int fd, const void *data, size_t size, offset_type at) { \
        REAL(name);                                                       \
        int what = hit_write(fd);                           \
        if (what == REFUSE) return refuse(ENOSPC);                        \
        if (what == TEAR) real(fd, data, size / 2, at), die();            \
        return real(fd, data, size, at);                                  \
    }
POSITIONED_WRITE(pwrite, off_t)
POSITIONED_WRITE(pwrite64, off64_t)

#define VECTOR_WRITE(name, offset_type)                                           \
    ssize_t name(int fd, const struct iovec *parts, int count, offset_type at) {  \
        REAL(name);                                                               \
        int what = hit_write(fd);                                   \
        if (what == REFUSE) return refuse(ENOSPC);                                \
        if (what == TEAR) real(fd, parts, count / 2, at), die();                  \
        return real(fd, parts, count, at);                                        \
    }
VECTOR_WRITE(pwritev, off_t)
VECTOR_WRITE(pwritev64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    int what = hit_write(fd);
    if (what == REFUSE) return refuse(ENOSPC);
    if (what == TEAR) real(fd, parts, count / 2), die();
    return real(fd, parts, count);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
    REAL(fwrite);
    int what = hit_write(fileno(stream));
    if (what == REFUSE) return refuse(ENOSPC), 0;
    if (what == TEAR) real(data, size, count / 2, stream), fflush(stream), die();
    return real(data, size, count, stream);
}

#define ON_DESCRIPTOR(name, number)                        \
    int name(int fd) {                                     \
        REAL(name);                                        \
        int what = hit_descriptor(#name, fd);              \
        if (what == TEAR) die();                           \
        return what == REFUSE ? refuse(number) : real(fd); \
    }
ON_DESCRIPTOR(fsync, EIO)
ON_DESCRIPTOR(fdatasync, EIO)

#define TRUNCATE(name, size_type)                                   \
    int name(int fd, size_type size) {                              \
        REAL(name);                                                 \
        int what = hit_descriptor("truncate", fd);                  \
        if (what == TEAR) die();                                    \
        return what == REFUSE ? refuse(ENOSPC) : real(fd, size);    \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define ON_PATH(name, call, number)                               \
    int name(const char *path) {                                  \
        REAL(name);                                               \
        int what = hit_at(call, AT_FDCWD, path);                  \
        if (what == TEAR) die();                                  \
        return what == REFUSE ? refuse(number) : real(path);      \
    }
ON_PATH(unlink, "remove", EIO)
ON_PATH(rmdir, "remove", EIO)

int unlinkat(int directory, const char *path, int flags) {
    REAL(unlinkat);
    int what = hit_at("remove", directory, path);
    if (what == TEAR) die();
    return what == REFUSE ? refuse(EIO) : real(directory, path, flags);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    int what = hit_make("mkdir", path);
    if (what == TEAR) die();
    return what == REFUSE ? refuse(ENOSPC) : real(path, mode);
}

int chmod(const char *path, mode_t mode) {
    REAL(chmod);
    int what = hit_at("chmod", AT_FDCWD, path);
    if (what == TEAR) die();
    return what == REFUSE ? refuse(EIO) : real(path, mode);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    char call[PATH_MAX + 8] = "rename";
    if (armed && is_below(from)) snprintf(call, sizeof call, "rename %s", from + strlen(folder));
    int what = hit_at(call, AT_FDCWD, to);
    if (what == TEAR) real(from, to), die();
    return what == REFUSE ? refuse(ENOSPC) : real(from, to);
}

#define OPEN(name)                                                                  \
    int name(const char *path, int flags, ...) {                                    \
        REAL(name);                                                                 \
        va_list rest;                                                               \
        va_start(rest, flags);                                                      \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;   \
        va_end(rest);                                                               \
        int what = !(flags & (O_CREAT | O_TRUNC)) ? 0                                   \
                   : flags & O_TRUNC ? hit_at("create", AT_FDCWD, path)                 \
                                     : hit_make("create", path);                        \
        if (what == TEAR) real(path, flags, mode), die();                           \
        return what == REFUSE ? refuse(ENOSPC) : real(path, flags, mode);           \
    }
OPEN(open)
OPEN(open64)
