/* Program directories: where the compiler reads model.mil and the weights. One per program identity, shared by equal
 * programs of this and of other processes, removed by the last that uses it; what a killed process left is swept up. */
#ifndef ANETRAIN_APPLE_DIRECTORY_H
#define ANETRAIN_APPLE_DIRECTORY_H

#include "../ane.h"

#define ANE_MODEL_FILE "model.mil"

typedef struct ane_directory ane_directory;

/* `id`: the program's hexStringIdentifier. Creates the directory where it is missing and takes part in its life. */
ane_status ane_directory_acquire(const char *root, const char *id, ane_directory **directory, ane_error *error);
/* Gives up the caller's part; the last one in the last process removes the directory. */
void ane_directory_release(ane_directory *directory);
const char *ane_directory_path(const ane_directory *directory);

/* Writing and compiling is for one thread of one process at a time: waits. `*lock` goes to ane_directory_end_writing.
 */
ane_status ane_directory_begin_writing(ane_directory *directory, int *lock, ane_error *error);
void ane_directory_end_writing(int lock);
/* `relative`: checked by ane_directory_accepts. The file appears whole or not at all. */
ane_status ane_directory_write(ane_directory *directory, const char *relative, const void *data, size_t bytes,
                               ane_error *error);
/* A path that stays inside and is none of the files that we or the framework keep there. */
bool ane_directory_accepts(const char *relative);

/* Removes directories of ours under `root` that no living process uses; returns how many. */
size_t ane_directory_sweep(const char *root);

#endif
