/* A disk that fails on request, below the whole data folder of PostgreSQL, to be preloaded: LD_PRELOAD=failing_server_disk.so.

   For each file, the folder FAILING_DISK_SHADOW has two files, named for the file's inode: its confirmed content
   (`content`), and the ranges written since (`dirty`). Names lead to their inodes immediately, as on a disk that writes
   folders at once. Otherwise the library is like failing_disk.c, with the same words in the file `state`. The files in
   `pg_wal` are the log, and all other files are data.

   Writes through stdio are not seen. PostgreSQL writes nothing in this way that it needs after a crash. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LOG, DATA };
enum { SYNCS = 0, FAIL_FROM = 2, FAIL_UNTIL = 4, FAILED = 6, POWER_CUT = 8, WORDS = 11 };
struct record { int64_t offset, length; }; /* a length of -1: the file was cut to `offset` bytes */

static volatile int64_t *state;
static int state_fd = -1;
static const char *root, *shadow;

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static ssize_t plain_write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    return real(fd, data, size);
}

static ssize_t plain_pwrite(int fd, const void *data, size_t size, off_t offset) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    return real(fd, data, size, offset);
}

static int plain_ftruncate(int fd, off_t size) {
    REAL(int, ftruncate, int, off_t);
    return real(fd, size);
}

static int plain_unlink(const char *path) {
    REAL(int, unlink, const char *);
    return real(path);
}

static int prepared(void) {
    if (state) return 1;
    char path[PATH_MAX];
    root = getenv("FAILING_DISK_ROOT");
    shadow = getenv("FAILING_DISK_SHADOW");
    if (!root || !shadow) return 0;
    snprintf(path, sizeof path, "%s/state", shadow);
    state_fd = open(path, O_RDWR | O_CLOEXEC);
    void *mapped = mmap(NULL, WORDS * sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);
    if (mapped == MAP_FAILED) abort();
    state = mapped;
    return 1;
}

/* Whether the file is below the root and has a name; also returns its status and kind. */
static int is_watched(int fd, struct stat *status, int *kind) {
    char link[64], path[PATH_MAX];
    int saved = errno, watched = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = prepared() ? readlink(link, path, sizeof path - 1) : -1;
    if (length > 0) {
        path[length] = 0;
        watched = !strncmp(path, root, strlen(root)) && !fstat(fd, status) && S_ISREG(status->st_mode) && status->st_nlink;
        *kind = strstr(path, "/pg_wal/") ? LOG : DATA;
    }
    errno = saved;
    return watched;
}

/* A lock over all processes. A killed process releases it. */
static void lock(void) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    while (fcntl(state_fd, F_SETLKW, &whole) < 0 && errno == EINTR) {}
}

static void unlock(void) {
    int saved = errno;
    struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    fcntl(state_fd, F_SETLK, &whole);
    errno = saved;
}

static void path_of(char *path, const char *part, ino_t inode) {
    snprintf(path, PATH_MAX, "%s/%s/%ju", shadow, part, (uintmax_t)inode);
}

static int open_in_shadow(const char *part, ino_t inode, int flags) {
    char path[PATH_MAX];
    path_of(path, part, inode);
    int fd = open(path, flags | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) abort();
    return fd;
}

static void note(ino_t inode, int64_t offset, int64_t length) {
    struct record record = {offset, length};
    int saved = errno, dirty = open_in_shadow("dirty", inode, O_WRONLY | O_APPEND);
    if (plain_write(dirty, &record, sizeof record) != sizeof record) abort();
    close(dirty);
    errno = saved;
}

static void forget_file(ino_t inode) {
    char path[PATH_MAX];
    int saved = errno;
    path_of(path, "content", inode);
    plain_unlink(path);
    path_of(path, "dirty", inode);
    plain_unlink(path);
    errno = saved;
}

static void confirm_range(int source, int copy, struct record range) {
    static char page[1 << 16];
    while (range.length > 0) {
        size_t wanted = range.length < (int64_t)sizeof page ? (size_t)range.length : sizeof page;
        ssize_t found = pread(source, page, wanted, range.offset);
        if (found <= 0) return;
        if (plain_pwrite(copy, page, found, range.offset) != found) abort();
        range.offset += found;
        range.length -= found;
    }
}

static void confirm(int fd, const struct stat *status, int dirty) {
    char link[64];
    struct record record;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int source = open(link, O_RDONLY | O_CLOEXEC), copy = open_in_shadow("content", status->st_ino, O_RDWR);
    for (off_t at = 0; pread(dirty, &record, sizeof record, at) == sizeof record; at += sizeof record) {
        if (record.length < 0) plain_ftruncate(copy, record.offset);
        else confirm_range(source, copy, record);
    }
    plain_ftruncate(copy, status->st_size);
    close(copy);
    close(source);
}

/* Returns 0, or -1 with EIO. */
static int sync_file(int fd, const struct stat *status, int kind) {
    lock();
    int64_t number = ++state[SYNCS + kind];
    int fails = state[FAIL_FROM + kind] && number >= state[FAIL_FROM + kind] && number < state[FAIL_UNTIL + kind];
    if (fails) state[FAILED + kind]++;
    if (!state[POWER_CUT]) {
        int dirty = open_in_shadow("dirty", status->st_ino, O_RDWR);
        if (!fails) confirm(fd, status, dirty);
        plain_ftruncate(dirty, 0);
        close(dirty);
    }
    fails = fails || state[POWER_CUT];
    unlock();
    if (fails) errno = EIO;
    return fails ? -1 : 0;
}

#define WATCHED_WRITE(plain, place) \
    struct stat status; \
    int kind; \
    if (!is_watched(fd, &status, &kind)) return plain; \
    lock(); \
    off_t at = place; \
    ssize_t written = plain; \
    if (written > 0) note(status.st_ino, at, written); \
    unlock(); \
    return written

ssize_t write(int fd, const void *data, size_t size) {
    WATCHED_WRITE(plain_write(fd, data, size), lseek(fd, 0, SEEK_CUR));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    WATCHED_WRITE(plain_pwrite(fd, data, size, offset), offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t);
    WATCHED_WRITE(real(fd, parts, count, offset), offset);
}

int ftruncate(int fd, off_t size) {
    struct stat status;
    int kind;
    if (!is_watched(fd, &status, &kind)) return plain_ftruncate(fd, size);
    lock();
    int result = plain_ftruncate(fd, size);
    if (!result) note(status.st_ino, size, -1);
    unlock();
    return result;
}

int truncate(const char *path, off_t size) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    int result = ftruncate(fd, size), saved = errno;
    close(fd);
    errno = saved;
    return result;
}

/* After the cut no name changes. */
static int is_cut(void) {
    if (!state[POWER_CUT]) return 0;
    errno = EIO;
    return 1;
}

/* The server's names are relative to its data folder. Other files that it removes are not in the shadow folder. */
int unlink(const char *path) {
    struct stat status;
    if (!prepared() || lstat(path, &status)) return plain_unlink(path);
    lock();
    int result = is_cut() ? -1 : plain_unlink(path);
    if (!result && status.st_nlink == 1) forget_file(status.st_ino);
    unlock();
    return result;
}

int rename(const char *from, const char *to) {
    struct stat status;
    REAL(int, rename, const char *, const char *);
    if (!prepared()) return real(from, to);
    lock();
    int replaces = !lstat(to, &status), result = is_cut() ? -1 : real(from, to);
    if (!result && replaces) forget_file(status.st_ino);
    unlock();
    return result;
}

int fsync(int fd) {
    struct stat status;
    int kind;
    REAL(int, fsync, int);
    return is_watched(fd, &status, &kind) ? sync_file(fd, &status, kind) : real(fd);
}

int fdatasync(int fd) {
    struct stat status;
    int kind;
    REAL(int, fdatasync, int);
    return is_watched(fd, &status, &kind) ? sync_file(fd, &status, kind) : real(fd);
}
