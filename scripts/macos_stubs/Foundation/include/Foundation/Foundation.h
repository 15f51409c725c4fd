/* The part of Foundation that anetrain uses, declared as on a Mac. A declaration that is wrong here is not found out:
 * keep to the documentation. */
#ifndef STUB_FOUNDATION_H
#define STUB_FOUNDATION_H

#include <objc/NSObject.h>
#include <objc/objc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

@class NSString, NSDictionary, NSError, NSURL;

@interface NSString : NSObject
+ (instancetype)stringWithUTF8String:(const char *)bytes;
@property(readonly) const char *UTF8String;
- (BOOL)isEqualToString:(NSString *)other;
- (BOOL)hasPrefix:(NSString *)prefix;
- (NSString *)stringByAppendingString:(NSString *)other;
- (NSString *)stringByAppendingPathComponent:(NSString *)component;
@end

@interface NSNumber : NSObject
+ (NSNumber *)numberWithChar:(char)value;
+ (NSNumber *)numberWithInt:(int)value;
+ (NSNumber *)numberWithUnsignedInt:(unsigned int)value;
+ (NSNumber *)numberWithLong:(long)value;
+ (NSNumber *)numberWithUnsignedLong:(unsigned long)value;
+ (NSNumber *)numberWithLongLong:(long long)value;
+ (NSNumber *)numberWithUnsignedLongLong:(unsigned long long)value;
+ (NSNumber *)numberWithUnsignedInteger:(NSUInteger)value;
+ (NSNumber *)numberWithBool:(BOOL)value;
+ (NSNumber *)numberWithDouble:(double)value;
@property(readonly) long long longLongValue;
@end

@interface NSData : NSObject
+ (instancetype)dataWithBytes:(const void *)bytes length:(NSUInteger)length;
+ (instancetype)dataWithBytesNoCopy:(void *)bytes length:(NSUInteger)length freeWhenDone:(BOOL)free;
+ (instancetype)dataWithContentsOfFile:(NSString *)path;
@property(readonly) const void *bytes;
@property(readonly) NSUInteger length;
@end

@interface NSArray : NSObject
+ (instancetype)arrayWithObjects:(const id[])objects count:(NSUInteger)count;
@property(readonly) NSUInteger count;
- (id)objectAtIndex:(NSUInteger)index;
@end

@interface NSMutableArray : NSArray
+ (instancetype)array;
- (void)addObject:(id)object;
@end

@interface NSDictionary : NSObject
+ (instancetype)dictionaryWithObjects:(const id[])objects forKeys:(const id[])keys count:(NSUInteger)count;
@property(readonly) NSUInteger count;
- (id)objectForKey:(id)key;
@end

@interface NSMutableDictionary : NSDictionary
+ (instancetype)dictionary;
+ (instancetype)dictionaryWithCapacity:(NSUInteger)capacity;
- (void)setObject:(id)object forKey:(id)key;
@end

@interface NSSet : NSObject
- (BOOL)containsObject:(id)object;
@end

@interface NSMutableSet : NSSet
+ (instancetype)set;
- (void)addObject:(id)object;
@end

@interface NSURL : NSObject
+ (NSURL *)fileURLWithPath:(NSString *)path;
@end

@interface NSBundle : NSObject
+ (instancetype)bundleWithPath:(NSString *)path;
- (id)objectForInfoDictionaryKey:(NSString *)key;
@end

@interface NSError : NSObject
@property(readonly) NSString *domain;
@property(readonly) NSInteger code;
@property(readonly) NSDictionary *userInfo;
@property(readonly) NSString *localizedDescription;
@property(readonly) NSString *localizedFailureReason;
@end

@interface NSException : NSObject
@property(readonly) NSString *name;
@property(readonly) NSString *reason;
@end

@interface NSJSONSerialization : NSObject
+ (NSData *)dataWithJSONObject:(id)object options:(NSUInteger)options error:(NSError **)error;
@end

@interface NSObject (FoundationDescription)
- (NSString *)description;
@end

extern NSString *const NSUnderlyingErrorKey;

NSString *NSTemporaryDirectory(void);
Class NSClassFromString(NSString *name);
NSString *NSStringFromClass(Class class);
NSString *NSStringFromSelector(SEL selector);

#endif
