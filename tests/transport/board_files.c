/* Loaded before a program (LD_PRELOAD): the folders of BOARD_FOLDERS are those below BOARD_ROOT, and a file there whose text is
   "!EAGAIN" answers that at read, one with "!EACCES" at open; "!HANG" never answers. So a driver's faults come as the kernel gives them,
   whatever the program is written in. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 65536
static int faults[MOST]; /* of a descriptor: what it answers at read; -1: nothing, ever */
#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

static const char *moved(const char *path, char *space) {
    const char *root = getenv("BOARD_ROOT"), *folders = getenv("BOARD_FOLDERS");
    if (path == NULL || root == NULL || folders == NULL || strncmp(path, root, strlen(root)) == 0) return path;
    for (const char *at = folders; *at;) {
        size_t length = strcspn(at, ":");
        if (strncmp(path, at, length) == 0 && (path[length] == '/' || path[length] == 0)) {
            snprintf(space, 4096, "%s%s", root, path);
            return space;
        }
        at += length + (at[length] == ':');
    }
    return path;
}

static int fault_of(const char *text) {
    struct { const char *name; int number; } known[] = {
        {"!EAGAIN", EAGAIN}, {"!EINVAL", EINVAL}, {"!ENODATA", ENODATA}, {"!EIO", EIO}, {"!ENXIO", ENXIO}, {"!HANG", -1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(text, known[i].name, strlen(known[i].name)) == 0) return known[i].number;
    return 0;
}

static int opened(const char *path, const char *to, int descriptor) {
    if (descriptor < 0 || descriptor >= MOST) return descriptor;
    faults[descriptor] = 0;
    if (path == to) return descriptor;
    char text[16] = {0};
    struct stat about;
    if (fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode) && pread(descriptor, text, 15, 0) > 0) {
        if (strncmp(text, "!EACCES", 7) == 0) {
            close(descriptor);
            errno = EACCES;
            return -1;
        }
        faults[descriptor] = fault_of(text);
    }
    return descriptor;
}

#define OPEN(name)                                                          \
    int name(const char *path, int flags, ...) {                            \
        va_list more; va_start(more, flags);                                \
        mode_t mode = va_arg(more, mode_t); va_end(more);                   \
        char space[4096]; const char *to = moved(path, space);              \
        return opened(path, to, REAL(name)(to, flags, mode));               \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                        \
    int name(int folder, const char *path, int flags, ...) {                \
        va_list more; va_start(more, flags);                                \
        mode_t mode = va_arg(more, mode_t); va_end(more);                   \
        char space[4096]; const char *to = moved(path, space);              \
        return opened(path, to, REAL(name)(folder, to, flags, mode));       \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int descriptor, void *into, size_t count) {
    int fault = descriptor >= 0 && descriptor < MOST ? faults[descriptor] : 0;
    if (fault > 0) {
        errno = fault;
        return -1;
    }
    while (fault < 0) pause();
    return REAL(read)(descriptor, into, count);
}

int close(int descriptor) {
    if (descriptor >= 0 && descriptor < MOST) faults[descriptor] = 0;
    return REAL(close)(descriptor);
}

#define BY_PATH(kind, name, last, given)                                    \
    kind name(const char *path last) {                                      \
        char space[4096];                                                   \
        return REAL(name)(moved(path, space) given);                        \
    }
#define WITH ,
BY_PATH(DIR *, opendir, , )
BY_PATH(int, access, WITH int mode, WITH mode)
BY_PATH(int, stat, WITH struct stat *about, WITH about)
BY_PATH(int, lstat, WITH struct stat *about, WITH about)
BY_PATH(int, stat64, WITH struct stat64 *about, WITH about)
BY_PATH(int, lstat64, WITH struct stat64 *about, WITH about)
int fstatat(int folder, const char *path, struct stat *about, int flags) {
    char space[4096];
    return REAL(fstatat)(folder, moved(path, space), about, flags);
}
int fstatat64(int folder, const char *path, struct stat64 *about, int flags) {
    char space[4096];
    return REAL(fstatat64)(folder, moved(path, space), about, flags);
}
