/* The private classes of AppleNeuralEngine.framework, as far as they are used: one typed protocol each, so that a
 * misspelt selector or a wrong argument type is a compile error. Class methods are protocols of instance methods, to
 * which the Class itself is cast. Selectors and types: docs/real_device.md. What is required is checked once
 * (framework.m). */
#ifndef ANETRAIN_APPLE_PRIVATE_API_H
#define ANETRAIN_APPLE_PRIVATE_API_H

#import <Foundation/Foundation.h>
#import <IOSurface/IOSurfaceRef.h>

#define ANE_FRAMEWORK_PATH "/System/Library/PrivateFrameworks/AppleNeuralEngine.framework/AppleNeuralEngine"

/* _ANEInMemoryModelDescriptor */
@protocol ANEDescriptorClass <NSObject>
- (id)modelWithMILText:(NSData *)text weights:(NSDictionary *)weights optionsPlist:(NSData *)options;
@end

/* _ANEInMemoryModel */
@protocol ANEModelClass <NSObject>
- (id)inMemoryModelWithDescriptor:(id)descriptor;
@end

@protocol ANEModel <NSObject>
- (NSString *)hexStringIdentifier;
- (BOOL)compileWithQoS:(unsigned int)qos options:(NSDictionary *)options error:(NSError **)error;
- (BOOL)loadWithQoS:(unsigned int)qos options:(NSDictionary *)options error:(NSError **)error;
- (BOOL)evaluateWithQoS:(unsigned int)qos options:(NSDictionary *)options request:(id)request error:(NSError **)error;
- (BOOL)unloadWithQoS:(unsigned int)qos error:(NSError **)error;
@optional /* done without where it is missing */
- (BOOL)compiledModelExists;
- (NSDictionary *)modelAttributes;
- (void)setModelURL:(NSURL *)url; /* needed only for a temporary directory of the user's choice */
@end

/* _ANEIOSurfaceObject */
@protocol ANESurfaceObjectClass <NSObject>
- (id)objectWithIOSurface:(IOSurfaceRef)surface; /* retains the surface */
@end

/* _ANERequest */
@protocol ANERequestClass <NSObject>
- (id)requestWithInputs:(NSArray *)inputs
           inputIndices:(NSArray *)input_indices
                outputs:(NSArray *)outputs
          outputIndices:(NSArray *)output_indices
          weightsBuffer:(id)weights_buffer
              perfStats:(NSArray *)perf_stats
         procedureIndex:(NSNumber *)procedure_index;
@end

@protocol ANERequest <NSObject>
@optional
- (BOOL)validate;
@end

/* _ANEDeviceInfo: class methods only */
@protocol ANEDeviceInfoClass <NSObject>
- (BOOL)hasANE;
@optional
- (BOOL)isVirtualMachine;
- (NSString *)aneSubType;
- (NSString *)aneArchitectureType;
- (NSString *)productName;
- (NSString *)buildVersion;
- (unsigned int)numANEs;
- (unsigned int)numANECores;
@end

#endif
