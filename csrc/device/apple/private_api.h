/* The private classes of AppleNeuralEngine.framework, as far as they are used: one typed protocol each, so that a
 * misspelt selector or a wrong argument type is a compile error. Class methods are protocols of instance methods, to
 * which the Class itself is cast. Selectors and types: docs/real_device.md. What training requires is checked once
 * (framework.m), the rest right before it is called. None is @optional, which only this compiler would know of: the
 * run-time library of Linux does not list such methods, and raw_api.m compares all of them with the framework's. */
#ifndef ANETRAIN_APPLE_PRIVATE_API_H
#define ANETRAIN_APPLE_PRIVATE_API_H

#import <Foundation/Foundation.h>
#import <IOSurface/IOSurfaceRef.h>

#define ANE_FRAMEWORK_FOLDER "/System/Library/PrivateFrameworks/AppleNeuralEngine.framework"
#define ANE_FRAMEWORK_PATH ANE_FRAMEWORK_FOLDER "/AppleNeuralEngine"

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
/* done without where they are missing */
- (BOOL)compiledModelExists;
- (NSDictionary *)modelAttributes;
- (void)setModelURL:(NSURL *)url; /* needed only for a temporary directory of the user's choice */
/* for probes only */
- (id)model;   /* _ANEModel, after the load */
- (id)program; /* _ANEProgramForEvaluation, after the load */
- (uint64_t)string_id;
- (void)setPerfStatsMask:(unsigned int)mask;
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
- (BOOL)validate; /* done without where it is missing */
/* for probes only */
- (void)setSharedEvents:(id)events;
- (void)setPerfStats:(id)statistics;
- (id)perfStats; /* _ANEPerformanceStats, where an evaluation left one */
- (NSArray *)inputArray;
- (NSArray *)outputArray;
@end

/* _ANEDeviceInfo: class methods only */
@protocol ANEDeviceInfoClass <NSObject>
- (BOOL)hasANE;
/* done without where they are missing */
- (BOOL)isVirtualMachine;
- (NSString *)aneSubType;
- (NSString *)aneArchitectureType;
- (NSString *)productName;
- (NSString *)buildVersion;
- (unsigned int)numANEs;
- (unsigned int)numANECores;
@end

/* ---- for probes only: no training without a class of these would go worse ---- */

/* _ANEClient */
@protocol ANEClientClass <NSObject>
- (id)sharedConnection;
@end

@protocol ANEClient <NSObject>
- (BOOL)evaluateWithModel:(id)model
                  options:(NSDictionary *)options
                  request:(id)request
                      qos:(unsigned int)qos
                    error:(NSError **)error;
- (BOOL)doEvaluateDirectWithModel:(id)model
                          options:(NSDictionary *)options
                          request:(id)request
                              qos:(unsigned int)qos
                            error:(NSError **)error;
- (BOOL)evaluateRealTimeWithModel:(id)model options:(NSDictionary *)options request:(id)request error:(NSError **)error;
- (BOOL)beginRealTimeTask;
- (BOOL)endRealTimeTask;
- (BOOL)prepareChainingWithModel:(id)model
                         options:(NSDictionary *)options
                     chainingReq:(id)request
                             qos:(unsigned int)qos
                           error:(NSError **)error;
- (BOOL)enqueueSetsWithModel:(id)model
                   outputSet:(id)set
                     options:(NSDictionary *)options
                         qos:(unsigned int)qos
                       error:(NSError **)error;
- (BOOL)buffersReadyWithModel:(id)model
                 inputBuffers:(id)buffers
                      options:(NSDictionary *)options
                          qos:(unsigned int)qos
                        error:(NSError **)error;
@end

/* _ANEProgramForEvaluation */
@protocol ANEProgram <NSObject>
- (BOOL)processRequest:(id)request
                 model:(id)model
                   qos:(unsigned int)qos
                qIndex:(uint64_t)queue_index
         modelStringID:(uint64_t)string_id
               options:(NSDictionary *)options
           returnValue:(uint32_t *)value
                 error:(NSError **)error;
@end

/* _ANEQoSMapper */
@protocol ANEQoSMapperClass <NSObject>
- (uint64_t)queueIndexForQoS:(unsigned int)qos;
@end

/* _ANEPerformanceStatsIOSurface: where statistics of one type go. A request takes an array of them. */
@protocol ANEStatsSurfaceClass <NSObject>
- (id)objectWithIOSurface:(id)surface_object statType:(int64_t)type;
@end

/* _ANEPerformanceStats: what the framework makes of them after an evaluation */
@protocol ANEPerformanceStats <NSObject>
- (uint64_t)hwExecutionTime; /* ns */
@end

/* _ANESharedEvents */
@protocol ANESharedEventsClass <NSObject>
- (id)sharedEventsWithSignalEvents:(NSArray *)signal waitEvents:(NSArray *)wait;
@end

/* _ANESharedSignalEvent */
@protocol ANESignalEventClass <NSObject>
- (id)signalEventWithValue:(uint64_t)value
               symbolIndex:(unsigned int)symbol
                 eventType:(int64_t)type
               sharedEvent:(id)event;
@end

/* _ANEBuffer. `source`: who fills it, 0 for inputs, 1 for outputs. */
@protocol ANEBufferClass <NSObject>
- (id)bufferWithIOSurfaceObject:(id)surface_object symbolIndex:(NSNumber *)symbol source:(int64_t)source;
@end

/* _ANEIOSurfaceOutputSets */
@protocol ANEOutputSetsClass <NSObject>
- (id)objectWithstatsSurRef:(IOSurfaceRef)statistics outputBuffer:(NSArray *)buffers; /* the surface is not retained */
@end

/* _ANEChainingRequest */
@protocol ANEChainingRequestClass <NSObject>
- (id)chainingRequestWithInputs:(NSArray *)inputs
                     outputSets:(NSArray *)sets
                lbInputSymbolId:(NSArray *)loop_inputs
               lbOutputSymbolId:(NSArray *)loop_outputs
                 procedureIndex:(NSNumber *)procedure_index
                   signalEvents:(NSArray *)events
              transactionHandle:(NSNumber *)transaction
                 fwEnqueueDelay:(NSNumber *)delay
                   memoryPoolId:(NSNumber *)pool;
@end

@protocol ANEChainingRequest <NSObject>
- (BOOL)validate;
@end

/* _ANEOutputSetEnqueue */
@protocol ANEOutputSetEnqueueClass <NSObject>
- (id)outputSetWithProcedureIndex:(unsigned int)procedure_index
                         setIndex:(unsigned int)set
                      signalValue:(uint64_t)value
                signalNotRequired:(BOOL)silent
                       isOpenLoop:(BOOL)open;
@end

/* _ANEInputBuffersReady */
@protocol ANEInputBuffersReadyClass <NSObject>
- (id)inputBuffersWithProcedureIndex:(unsigned int)procedure_index
                inputBufferInfoIndex:(NSArray *)indices
                      inputFreeValue:(NSArray *)values
                      executionDelay:(uint64_t)delay;
@end

#endif
