// Weight blobs: as the framework takes them, and as files that its compiler reads.
#include <string.h>
#include <strings.h>

#import "apple.h"

static const char PREFIX[] = "@model_path/";

/* The part below the program directory; NULL when the path does not begin as it must. */
static const char *relative_path(const char *path) {
  return strncmp(path, PREFIX, strlen(PREFIX)) == 0 ? path + strlen(PREFIX) : NULL;
}

ane_status ane_blobs_check(const ane_blob *blobs, size_t count, ane_error *error) {
  for (size_t i = 0; i < count; i++) {
    const char *path = blobs[i].path, *relative = relative_path(path);
    if (!relative || ![NSString stringWithUTF8String:path])
      return ane_fail(error, ANE_BAD_ARGUMENT,
                      "blob %zu is named '%.256s'; its path must read '@model_path/...', in UTF-8", i, path);
    if (!ane_directory_accepts(relative))
      return ane_fail(error, ANE_BAD_ARGUMENT,
                      "blob path '%.256s' leaves the program's directory, or is a name that is taken there", path);
    for (size_t j = 0; j < i; j++) /* a Mac's file system ignores case, as a rule */
      if (strcasecmp(blobs[j].path, path) == 0)
        return ane_fail(error, ANE_BAD_ARGUMENT,
                        "blob paths '%.256s' and '%.256s' are one file where case is ignored; rename one",
                        blobs[j].path, path);
  }
  return ANE_OK;
}

NSDictionary *ane_blobs_weights(const ane_blob *blobs, size_t count) {
  NSMutableDictionary *weights = [NSMutableDictionary dictionaryWithCapacity:count];
  for (size_t i = 0; i < count; i++) {
    /* The framework lets go of the bytes when it has compiled; the caller's stay valid until then. */
    NSData *data = [NSData dataWithBytesNoCopy:(void *)blobs[i].data length:blobs[i].bytes freeWhenDone:NO];
    [weights setObject:@{@"offset" : @0, @"data" : data} forKey:[NSString stringWithUTF8String:blobs[i].path]];
  }
  return weights;
}

ane_status ane_blobs_write(ane_directory *directory, const ane_blob *blobs, size_t count, ane_error *error) {
  ane_status status = ANE_OK;
  for (size_t i = 0; i < count && status == ANE_OK; i++)
    status = ane_directory_write(directory, relative_path(blobs[i].path), blobs[i].data, blobs[i].bytes, error);
  return status;
}
