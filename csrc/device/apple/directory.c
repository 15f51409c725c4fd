/* The life of a program directory, told by two lock files inside it:
 *   .anetrain.use    held shared by every process that has the program; who can take it alone may remove the directory
 *   .anetrain.write  held alone while files are written and the compiler reads them
 * The kernel drops the locks of a process that dies, so a directory whose `use` lock is free is stale. */
#include "directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../backend.h"

#define USE_LOCK ".anetrain.use"
#define WRITE_LOCK ".anetrain.write"
#define REMOVED ".anetrain-removed-"
enum { PATH_BYTES = 2048, REMOVAL_FILES = 16, LOCK_TRIES = 100, COMPARE_BYTES = 1 << 16 };

struct ane_directory {
  ane_directory *next;
  char *path;
  int use_lock;
  size_t references; /* programs of this process */
};

static pthread_mutex_t table_mutex = PTHREAD_MUTEX_INITIALIZER;
static ane_directory *table;

static ane_status fail_errno(ane_error *error, const char *doing, const char *path) {
  return ane_fail(error, ANE_COMPILE_FAILED, "%s %s: %s", doing, path, strerror(errno));
}

static bool join(char *target, const char *folder, const char *name) {
  return snprintf(target, PATH_BYTES, "%s/%s", folder, name) < PATH_BYTES;
}

static int lock_file(int file, int operation) {
  int result;
  do result = flock(file, operation);
  while (result != 0 && errno == EINTR);
  return result;
}

/* ---- removal ---- */

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk) {
  (void)status, (void)kind, (void)walk;
  return remove(path);
}

static bool remove_tree(const char *path) { return nftw(path, remove_entry, REMOVAL_FILES, FTW_DEPTH | FTW_PHYS) == 0; }

/* For the one who holds the `use` lock alone. Renamed first: whoever comes meanwhile makes a directory of its own, and
 * whoever waits for the lock finds that it is not there any more. What stays behind, the next sweep removes. */
static bool remove_directory(const char *path) {
  static atomic_uint count;
  char removed[PATH_BYTES];
  size_t root_length = (size_t)(strrchr(path, '/') - path);
  int length = snprintf(removed, sizeof removed, "%.*s/" REMOVED "%ld-%u", (int)root_length, path, (long)getpid(),
                        atomic_fetch_add(&count, 1));
  if (length >= (int)sizeof removed || rename(path, removed) != 0) return false;
  return remove_tree(removed);
}

/* Is the open file still the one at `path`? Not when its directory was removed, or removed and made anew. */
static bool still_there(int file, const char *path) {
  struct stat opened, found;
  return fstat(file, &opened) == 0 && stat(path, &found) == 0 && opened.st_ino == found.st_ino &&
         opened.st_dev == found.st_dev;
}

/* ---- taking part ---- */

/* A descriptor that holds the `use` lock shared; -1 with errno. */
static int take_use_lock(const char *path) {
  char lock_path[PATH_BYTES];
  if (!join(lock_path, path, USE_LOCK)) {
    errno = ENAMETOOLONG;
    return -1;
  }
  for (int tries = 0; tries < LOCK_TRIES; tries++) { /* again when another process removed it between two steps */
    if (mkdir(path, 0700) != 0 && errno != EEXIST) return -1;
    int file = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0 && errno == ENOENT) continue;
    if (file < 0) return -1;
    if (lock_file(file, LOCK_SH) == 0 && still_there(file, lock_path)) return file;
    int reason = errno;
    bool gone = !still_there(file, lock_path);
    close(file);
    if (gone) continue;
    errno = reason;
    return -1;
  }
  errno = ENOENT; /* as of a link that leads nowhere */
  return -1;
}

static ane_directory *find(const char *path) {
  for (ane_directory *directory = table; directory; directory = directory->next)
    if (strcmp(directory->path, path) == 0) return directory;
  return NULL;
}

static ane_status add(const char *path, ane_directory **result, ane_error *error) {
  ane_directory *directory = calloc(1, sizeof *directory);
  if (!directory || !(directory->path = strdup(path))) {
    free(directory);
    return ane_fail(error, ANE_UNAVAILABLE, "out of memory");
  }
  directory->use_lock = take_use_lock(path);
  if (directory->use_lock < 0) {
    ane_status status = fail_errno(error, "cannot use the program directory", path);
    free(directory->path);
    free(directory);
    return status;
  }
  directory->next = table;
  table = directory;
  *result = directory;
  return ANE_OK;
}

/* The identifier becomes a directory below root. The framework's are three SHA-256 in hex, joined by '_'; that is not
 * insisted on, only that it is one harmless name. */
static bool is_identifier(const char *id) {
  size_t length = strspn(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-");
  return length > 0 && length < 240 && id[length] == 0;
}

ane_status ane_directory_acquire(const char *root, const char *id, ane_directory **directory, ane_error *error) {
  char path[PATH_BYTES];
  if (!is_identifier(id))
    return ane_fail(error, ANE_COMPILE_FAILED, "the framework names the program '%.256s', which is no directory name",
                    id);
  if (!join(path, root, id)) return ane_fail(error, ANE_BAD_ARGUMENT, "temp_dir is too long: %.256s", root);
  ane_status status = ANE_OK;
  pthread_mutex_lock(&table_mutex);
  *directory = find(path);
  if (!*directory) status = add(path, directory, error);
  if (status == ANE_OK) (*directory)->references++;
  pthread_mutex_unlock(&table_mutex);
  return status;
}

/* The last one out removes it. A lock that becomes exclusive is given up for a moment (flock(2)): another process may
 * have removed the directory in it, and a third one made it anew. */
static void leave(const ane_directory *directory) {
  char lock_path[PATH_BYTES];
  if (!join(lock_path, directory->path, USE_LOCK)) return;
  if (lock_file(directory->use_lock, LOCK_EX | LOCK_NB) == 0 && still_there(directory->use_lock, lock_path))
    (void)remove_directory(directory->path);
}

void ane_directory_release(ane_directory *directory) {
  pthread_mutex_lock(&table_mutex);
  if (--directory->references == 0) {
    ane_directory **link = &table;
    while (*link != directory) link = &(*link)->next;
    *link = directory->next;
    leave(directory);
    close(directory->use_lock);
    free(directory->path);
    free(directory);
  }
  pthread_mutex_unlock(&table_mutex);
}

const char *ane_directory_path(const ane_directory *directory) { return directory->path; }

/* ---- writing ---- */

ane_status ane_directory_begin_writing(ane_directory *directory, int *lock, ane_error *error) {
  char path[PATH_BYTES];
  if (!join(path, directory->path, WRITE_LOCK)) return ane_fail(error, ANE_BAD_ARGUMENT, "temp_dir is too long");
  int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return fail_errno(error, "cannot open", path);
  if (lock_file(file, LOCK_EX) != 0) {
    ane_status status = fail_errno(error, "cannot lock", path);
    close(file);
    return status;
  }
  *lock = file;
  return ANE_OK;
}

void ane_directory_end_writing(int lock) { close(lock); }

bool ane_directory_accepts(const char *relative) {
  static const char *const taken[] = {ANE_MODEL_FILE, "net.plist", "data", USE_LOCK, WRITE_LOCK};
  for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
    if (strcasecmp(relative, taken[i]) == 0) return false; /* a Mac's file system ignores case, as a rule */
  for (const char *part = relative;;) {                    /* no empty part, none that is "." or ".." */
    size_t length = strcspn(part, "/");
    if (length == 0 || (length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.'))
      return false;
    if (part[length] == 0) return true;
    part += length + 1;
  }
}

static ane_status make_parents(char *path, size_t prefix, ane_error *error) {
  for (char *slash = strchr(path + prefix, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    bool made = mkdir(path, 0700) == 0 || errno == EEXIST;
    ane_status status = made ? ANE_OK : fail_errno(error, "cannot create", path);
    *slash = '/';
    if (status != ANE_OK) return status;
  }
  return ANE_OK;
}

static bool write_all(int file, const char *data, size_t bytes) {
  while (bytes > 0) {
    ssize_t written = write(file, data, bytes < ((size_t)1 << 30) ? bytes : (size_t)1 << 30);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    data += written;
    bytes -= (size_t)written;
  }
  return true;
}

static ane_status write_file(const char *path, const void *data, size_t bytes, ane_error *error) {
  int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return fail_errno(error, "cannot create", path);
  bool written = write_all(file, data, bytes);
  ane_status status = written ? ANE_OK : fail_errno(error, "cannot write", path);
  if (close(file) != 0 && written) status = fail_errno(error, "cannot write", path);
  return status;
}

static bool has_content(const char *path, const char *data, size_t bytes) {
  struct stat found;
  if (lstat(path, &found) != 0 || !S_ISREG(found.st_mode) || (size_t)found.st_size != bytes) return false;
  FILE *file = fopen(path, "rb");
  if (!file) return false;
  static _Thread_local char piece[COMPARE_BYTES];
  bool same = true;
  for (size_t done = 0; same && done < bytes;) {
    size_t wanted = bytes - done < sizeof piece ? bytes - done : sizeof piece;
    same = fread(piece, 1, wanted, file) == wanted && memcmp(piece, data + done, wanted) == 0;
    done += wanted;
  }
  fclose(file);
  return same;
}

ane_status ane_directory_write(ane_directory *directory, const char *relative, const void *data, size_t bytes,
                               ane_error *error) {
  char path[PATH_BYTES], unfinished[PATH_BYTES + 16];
  if (!join(path, directory->path, relative))
    return ane_fail(error, ANE_BAD_ARGUMENT, "path too long: %.256s", relative);
  /* Another program of the same identity may be reading it. That identity covers all weights is likely, not proven. */
  if (has_content(path, data, bytes)) return ANE_OK;
  ane_status status = make_parents(path, strlen(directory->path) + 1, error);
  if (status != ANE_OK) return status;
  snprintf(unfinished, sizeof unfinished, "%s.unfinished", path);
  status = write_file(unfinished, data, bytes, error);
  if (status == ANE_OK && rename(unfinished, path) != 0) status = fail_errno(error, "cannot rename", unfinished);
  return status;
}

/* ---- sweeping ---- */

static bool sweep_one(const char *path) {
  char lock_path[PATH_BYTES];
  if (!join(lock_path, path, USE_LOCK)) return false;
  int file = open(lock_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW); /* not created: without it the directory is not ours */
  if (file < 0) return false;
  bool removed = lock_file(file, LOCK_EX | LOCK_NB) == 0 && still_there(file, lock_path) && remove_directory(path);
  close(file);
  return removed;
}

size_t ane_directory_sweep(const char *root) {
  DIR *folder = opendir(root);
  if (!folder) return 0;
  size_t removed = 0;
  for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
    char path[PATH_BYTES];
    if (!join(path, root, entry->d_name)) continue;
    bool remains = strncmp(entry->d_name, REMOVED, strlen(REMOVED)) == 0;
    if (remains ? remove_tree(path) : is_identifier(entry->d_name) && sweep_one(path)) removed++;
  }
  closedir(folder);
  return removed;
}
