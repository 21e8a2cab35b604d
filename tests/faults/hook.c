/* Breaks one call of the host program where ptrace(2) is refused: the same faults and the same trace as strace.py's.

   Preloaded (ld.so(8)), it stands before libc's functions of the calls that change something. Like strace without -f
   it sees the process it was loaded into and its main thread alone: children and threads pass through.
   HOOK_TRACE names the file to write, HOOK_FAULTS what to do: NAME:WHEN[+]:kill|errno=N, separated by commas. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST 64
static struct { char name[32]; int seen; } counted[MOST];
static struct { char name[32]; int when, ever, error, kill; } faults[MOST];
static int faults_number, trace = -1;
static pid_t self;

__attribute__((constructor)) static void begin(void) {
    char *path = getenv("HOOK_TRACE"), *list = getenv("HOOK_FAULTS"), *kept;
    if (!path) return;
    trace = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    self = getpid();
    list = strdup(list ? list : "");
    for (char *one = strtok_r(list, ",", &kept); one && faults_number < MOST; one = strtok_r(NULL, ",", &kept)) {
        char what[32] = "", plus[2] = "";
        int at = faults_number;
        if (sscanf(one, "%31[^:]:%d%1[+]:%31s", faults[at].name, &faults[at].when, plus, what) != 4) {
            plus[0] = 0;
            if (sscanf(one, "%31[^:]:%d:%31s", faults[at].name, &faults[at].when, what) != 3) abort();
        }
        faults[at].ever = plus[0] == '+';
        faults[at].kill = !strcmp(what, "kill");
        if (!faults[at].kill && sscanf(what, "errno=%d", &faults[at].error) != 1) abort();
        faults_number++;
    }
    unsetenv("LD_PRELOAD");
    unsetenv("HOOK_TRACE");
    unsetenv("HOOK_FAULTS");
}

static int ours(void) { return trace >= 0 && getpid() == self && syscall(SYS_gettid) == self; }

static const char *opened(int fd, char *path) {
    char link[64];
    if (fd == AT_FDCWD) return getcwd(path, 4000) ? path : "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4000);
    path[length > 0 ? length : 0] = 0;
    return path;
}

/* The path behind what names a descriptor of ours. */
static const char *behind(const char *path, char *where) {
    int fd;
    return sscanf(path, "/proc/self/fd/%d", &fd) == 1 ? opened(fd, where) : path;
}

/* Count a call, tell of it, and strike it where that is asked for: nonzero, errno set. */
static int struck(const char *name, const char *format, ...) {
    if (!ours()) return 0;
    int kept = errno, at = 0, when;
    while (at < MOST - 1 && counted[at].seen && strcmp(counted[at].name, name)) at++;
    strncpy(counted[at].name, name, 31);
    when = ++counted[at].seen;
    char line[9000];
    va_list rest;
    va_start(rest, format);
    int length = snprintf(line, sizeof line, "%s(", name);
    length += vsnprintf(line + length, 8500, format, rest);
    va_end(rest);
    int error = 0, killed = 0;
    for (int i = 0; i < faults_number; i++) {
        int hit = !strcmp(faults[i].name, name) && (when == faults[i].when || (faults[i].ever && when > faults[i].when));
        if (hit) error = faults[i].error, killed |= faults[i].kill;
    }
    if (killed) length += sprintf(line + length, ") = ?\n+++ killed by SIGKILL +++\n");
    else if (error) length += sprintf(line + length, ") = -1 E%d (INJECTED)\n", error);
    else length += sprintf(line + length, ") = 0\n");
    syscall(SYS_write, trace, line, length);
    if (killed) syscall(SYS_kill, self, SIGKILL);
    errno = error ? error : kept;
    return error;
}

/* What stands behind a name, found once. */
#define NEXT(type, name, arguments) \
    static type (*next) arguments; \
    if (!next) next = (type (*) arguments) dlsym(RTLD_NEXT, #name)

#define PATH(name) \
    int name(const char *path) { \
        NEXT(int, name, (const char *)); \
        return struck(#name, "\"%s\"", path) ? -1 : next(path); \
    }
#define PATH_MODE(name) \
    int name(const char *path, mode_t mode) { \
        NEXT(int, name, (const char *, mode_t)); \
        char where[4096]; \
        return struck(#name, "\"%s\", 0%o", behind(path, where), mode) ? -1 : next(path, mode); \
    }
#define TWO_PATHS(name) \
    int name(const char *from, const char *to) { \
        NEXT(int, name, (const char *, const char *)); \
        return struck(#name, "\"%s\", \"%s\"", from, to) ? -1 : next(from, to); \
    }
#define OWNER(name) \
    int name(const char *path, uid_t user, gid_t group) { \
        NEXT(int, name, (const char *, uid_t, gid_t)); \
        return struck(#name, "\"%s\", %d, %d", path, (int) user, (int) group) ? -1 : next(path, user, group); \
    }
#define DESCRIPTOR(name) \
    int name(int fd) { \
        NEXT(int, name, (int)); \
        char path[4096]; \
        return struck(#name, "%d<%s>", fd, opened(fd, path)) ? -1 : next(fd); \
    }

PATH(unlink)
PATH(rmdir)
PATH_MODE(mkdir)
PATH_MODE(chmod)
TWO_PATHS(rename)
TWO_PATHS(link)
TWO_PATHS(symlink)
OWNER(chown)
OWNER(lchown)
DESCRIPTOR(fsync)
DESCRIPTOR(fdatasync)
DESCRIPTOR(syncfs)

int mkdirat(int at, const char *path, mode_t mode) {
    NEXT(int, mkdirat, (int, const char *, mode_t));
    char where[4096];
    return struck("mkdirat", "%d<%s>, \"%s\", 0%o", at, opened(at, where), path, mode) ? -1 : next(at, path, mode);
}
int unlinkat(int at, const char *path, int flags) {
    NEXT(int, unlinkat, (int, const char *, int));
    char where[4096];
    return struck("unlinkat", "%d<%s>, \"%s\", %d", at, opened(at, where), path, flags) ? -1 : next(at, path, flags);
}
int fchmodat(int at, const char *path, mode_t mode, int flags) {
    NEXT(int, fchmodat, (int, const char *, mode_t, int));
    char where[4096];
    return struck("fchmodat", "%d<%s>, \"%s\", 0%o", at, opened(at, where), path, mode) ? -1 : next(at, path, mode, flags);
}
int fchownat(int at, const char *path, uid_t user, gid_t group, int flags) {
    NEXT(int, fchownat, (int, const char *, uid_t, gid_t, int));
    char where[4096];
    return struck("fchownat", "%d<%s>, \"%s\", %d, %d", at, opened(at, where), path, (int) user, (int) group)
        ? -1 : next(at, path, user, group, flags);
}
int linkat(int at, const char *from, int other, const char *to, int flags) {
    NEXT(int, linkat, (int, const char *, int, const char *, int));
    char where[4096];
    return struck("linkat", "%d<%s>, \"%s\", %d, \"%s\"", at, opened(at, where), from, other, to)
        ? -1 : next(at, from, other, to, flags);
}
int renameat(int at, const char *from, int other, const char *to) {
    NEXT(int, renameat, (int, const char *, int, const char *));
    char where[4096];
    return struck("renameat", "%d<%s>, \"%s\", %d, \"%s\"", at, opened(at, where), from, other, to)
        ? -1 : next(at, from, other, to);
}
int renameat2(int at, const char *from, int other, const char *to, unsigned flags) {
    NEXT(int, renameat2, (int, const char *, int, const char *, unsigned));
    char where[4096];
    return struck("renameat2", "%d<%s>, \"%s\", %d, \"%s\"", at, opened(at, where), from, other, to)
        ? -1 : next(at, from, other, to, flags);
}
int fchmod(int fd, mode_t mode) {
    NEXT(int, fchmod, (int, mode_t));
    char path[4096];
    return struck("fchmod", "%d<%s>, 0%o", fd, opened(fd, path), mode) ? -1 : next(fd, mode);
}
int fchown(int fd, uid_t user, gid_t group) {
    NEXT(int, fchown, (int, uid_t, gid_t));
    char path[4096];
    return struck("fchown", "%d<%s>, %d, %d", fd, opened(fd, path), (int) user, (int) group) ? -1 : next(fd, user, group);
}
int flock(int fd, int how) {
    NEXT(int, flock, (int, int));
    char path[4096];
    return struck("flock", "%d<%s>, %d", fd, opened(fd, path), how) ? -1 : next(fd, how);
}
int fallocate(int fd, int mode, off_t from, off_t size) {
    NEXT(int, fallocate, (int, int, off_t, off_t));
    char path[4096];
    return struck("fallocate", "%d<%s>", fd, opened(fd, path)) ? -1 : next(fd, mode, from, size);
}
int ftruncate64(int fd, off64_t size) {
    NEXT(int, ftruncate64, (int, off64_t));
    char path[4096];
    return struck("ftruncate", "%d<%s>", fd, opened(fd, path)) ? -1 : next(fd, size);
}
ssize_t write(int fd, const void *data, size_t size) {
    NEXT(ssize_t, write, (int, const void *, size_t));
    char path[4096];
    return struck("write", "%d<%s>, %zu", fd, opened(fd, path), size) ? -1 : next(fd, data, size);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    NEXT(ssize_t, pwrite64, (int, const void *, size_t, off64_t));
    char path[4096];
    return struck("pwrite64", "%d<%s>, %zu", fd, opened(fd, path), size) ? -1 : next(fd, data, size, at);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t size) {
    NEXT(ssize_t, sendfile64, (int, int, off64_t *, size_t));
    char path[4096];
    return struck("sendfile", "%d<%s>, %zu", to, opened(to, path), size) ? -1 : next(to, from, at, size);
}

/* What opens only to read changes nothing, and is not counted. */
static int may_write(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC); }
static mode_t mode_of(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; }

int open64(const char *path, int flags, ...) {
    NEXT(int, open64, (const char *, int, ...));
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    if (may_write(flags) && struck("openat", "AT_FDCWD, \"%s\", O_WRONLY|O_CREAT", path)) return -1;
    return next(path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...) {
    NEXT(int, openat64, (int, const char *, int, ...));
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    char where[4096];
    if (may_write(flags) && struck("openat", "%d<%s>, \"%s\", O_WRONLY|O_CREAT", at, opened(at, where), path)) return -1;
    return next(at, path, flags, mode);
}
