/* The part of CoreFoundation that anetrain uses, declared as on a Mac. */
#ifndef STUB_CORE_FOUNDATION_H
#define STUB_CORE_FOUNDATION_H

#ifdef __cplusplus
extern "C" {
#endif

typedef const void *CFTypeRef;
typedef const struct __CFString *CFStringRef;
typedef const struct __CFDictionary *CFDictionaryRef;
void CFRelease(CFTypeRef object);

#ifdef __cplusplus
}
#endif
#endif
