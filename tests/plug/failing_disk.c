/* A disk that fails on request, to be preloaded: LD_PRELOAD=failing_disk.so.

   It watches the SQLite file and its log in the folder FAILING_DISK_ROOT. The folder FAILING_DISK_SHADOW keeps everything
   that a successful fsync or fdatasync confirmed, as the disk would hold it after a power cut. A failing sync returns EIO
   and forgets the data to be written, because the kernel marks such pages clean, and the next sync succeeds without them.

   Reads fail on request, too.

   All processes share the file `state` in the shadow folder. failing_disk.py describes its words. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOG, DATA, KINDS };
enum { SYNCS = 0, FAIL_FROM = 2, FAIL_UNTIL = 4, FAILED = 6, POWER_CUT = 8, COMMITS = 9, FAIL_COVERING = 10,
       FAIL_READS = 11, WORDS = 12 };
struct record { int64_t offset, length; }; /* a length of -1: the file was cut to `offset` bytes */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile int64_t *state;
static int state_fd = -1, dirty_fd[KINDS] = {-1, -1};
static const char *root, *shadow;

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static ssize_t plain_pwrite(int fd, const void *data, size_t size, off64_t offset) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return real(fd, data, size, offset);
}

static ssize_t plain_pread(int fd, void *data, size_t size, off64_t offset) {
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    return real(fd, data, size, offset);
}

static int plain_ftruncate(int fd, off64_t size) {
    REAL(int, ftruncate64, int, off64_t);
    return real(fd, size);
}

static int open_in_shadow(const char *name, int flags) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", shadow, name);
    return open(path, flags | O_CREAT | O_CLOEXEC, 0666);
}

static void prepare(void) {
    if (state) return;
    root = getenv("FAILING_DISK_ROOT");
    shadow = getenv("FAILING_DISK_SHADOW");
    if (!root || !shadow) return;
    state_fd = open_in_shadow("state", O_RDWR);
    dirty_fd[LOG] = open_in_shadow("dirty-log", O_RDWR | O_APPEND);
    dirty_fd[DATA] = open_in_shadow("dirty-data", O_RDWR | O_APPEND);
    plain_ftruncate(state_fd, WORDS * sizeof *state);
    void *mapped = mmap(NULL, WORDS * sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);
    if (mapped != MAP_FAILED) state = mapped;
}

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && !strcmp(text + length - wanted, end);
}

static int kind_of_path(const char *path) {
    if (!root || strncmp(path, root, strlen(root))) return -1;
    return ends_with(path, ".db-wal") ? LOG : ends_with(path, ".db") ? DATA : -1;
}

/* The kind of a watched file, and its name in the shadow folder; -1 for any other file. */
static int kind_of(int fd, char *name) {
    char link[64], path[PATH_MAX];
    int saved = errno;
    pthread_mutex_lock(&mutex);
    prepare();
    pthread_mutex_unlock(&mutex);
    if (!state) { errno = saved; return -1; }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0) return -1;
    path[length] = 0;
    int kind = kind_of_path(path);
    if (kind >= 0) strcpy(name, strrchr(path, '/') + 1);
    return kind;
}

/* A lock over all threads and processes. A killed process releases it. */
static void lock(void) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    pthread_mutex_lock(&mutex);
    while (fcntl(state_fd, F_SETLKW, &whole) < 0 && errno == EINTR) {}
}

static void unlock(void) {
    struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    fcntl(state_fd, F_SETLK, &whole);
    pthread_mutex_unlock(&mutex);
}

static void note(int kind, int64_t offset, int64_t length) {
    struct record record = {offset, length};
    REAL(ssize_t, write, int, const void *, size_t);
    if (real(dirty_fd[kind], &record, sizeof record) != sizeof record) abort();
}

static void confirm(int fd, int kind, const char *name) {
    static char page[1 << 16];
    struct record record;
    int copy = open_in_shadow(name, O_RDWR);
    for (off64_t at = 0; plain_pread(dirty_fd[kind], &record, sizeof record, at) == sizeof record; at += sizeof record) {
        if (record.length < 0) plain_ftruncate(copy, record.offset);
        while (record.length > 0) {
            size_t wanted = record.length < (int64_t)sizeof page ? (size_t)record.length : sizeof page;
            ssize_t found = plain_pread(fd, page, wanted, record.offset);
            if (found <= 0) break;
            plain_pwrite(copy, page, found, record.offset);
            record.offset += found;
            record.length -= found;
        }
    }
    close(copy);
}

/* Returns 0, or -1 with EIO. */
static int sync_file(int fd, int kind, const char *name) {
    lock();
    int64_t number = ++state[SYNCS + kind];
    int fails = state[FAIL_FROM + kind] && number >= state[FAIL_FROM + kind] && number < state[FAIL_UNTIL + kind];
    if (kind == LOG) {
        if (state[FAIL_COVERING] && state[COMMITS] > 1) { fails = 1; state[FAIL_COVERING] = 0; }
        state[COMMITS] = 0;
    }
    if (fails) state[FAILED + kind]++;
    if (!fails && !state[POWER_CUT]) confirm(fd, kind, name);
    if (!state[POWER_CUT]) plain_ftruncate(dirty_fd[kind], 0);
    fails = fails || state[POWER_CUT];
    unlock();
    if (fails) errno = EIO;
    return fails ? -1 : 0;
}

static ssize_t write_at(int fd, const void *data, size_t size, off64_t offset) {
    char name[PATH_MAX];
    int kind = kind_of(fd, name);
    if (kind < 0) return plain_pwrite(fd, data, size, offset);
    lock();
    ssize_t written = plain_pwrite(fd, data, size, offset);
    if (written > 0) note(kind, offset, written);
    /* The header of a frame. In a commit's last frame it contains the size of the database. */
    if (kind == LOG && size == 24 && memcmp((const char *)data + 4, "\0\0\0\0", 4)) state[COMMITS]++;
    unlock();
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return write_at(fd, data, size, offset); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return write_at(fd, data, size, offset); }

static ssize_t read_at(int fd, void *data, size_t size, off64_t offset) {
    char name[PATH_MAX];
    if (!state || state[FAIL_READS] <= 0 || kind_of(fd, name) < 0) return plain_pread(fd, data, size, offset);
    lock();
    int fails = state[FAIL_READS] > 0;
    if (fails) state[FAIL_READS]--;
    unlock();
    if (!fails) return plain_pread(fd, data, size, offset);
    errno = EIO;
    return -1;
}

ssize_t pread(int fd, void *data, size_t size, off_t offset) { return read_at(fd, data, size, offset); }
ssize_t pread64(int fd, void *data, size_t size, off64_t offset) { return read_at(fd, data, size, offset); }

static int cut_to(int fd, off64_t size) {
    char name[PATH_MAX];
    int kind = kind_of(fd, name);
    if (kind < 0) return plain_ftruncate(fd, size);
    lock();
    int result = plain_ftruncate(fd, size);
    if (!result) note(kind, size, -1);
    unlock();
    return result;
}

int ftruncate(int fd, off_t size) { return cut_to(fd, size); }
int ftruncate64(int fd, off64_t size) { return cut_to(fd, size); }

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    prepare();
    int kind = state ? kind_of_path(path) : -1;
    if (kind < 0) return real(path);
    lock();
    int result = real(path);
    if (!result && !state[POWER_CUT]) {
        char copy[PATH_MAX];
        snprintf(copy, sizeof copy, "%s/%s", shadow, strrchr(path, '/') + 1);
        real(copy);
        plain_ftruncate(dirty_fd[kind], 0);
    }
    unlock();
    return result;
}

int fsync(int fd) {
    char name[PATH_MAX];
    int kind = kind_of(fd, name);
    REAL(int, fsync, int);
    return kind < 0 ? real(fd) : sync_file(fd, kind, name);
}

int fdatasync(int fd) {
    char name[PATH_MAX];
    int kind = kind_of(fd, name);
    REAL(int, fdatasync, int);
    return kind < 0 ? real(fd) : sync_file(fd, kind, name);
}
