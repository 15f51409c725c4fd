/* A stand-in for AppleNeuralEngine.framework, for tests: dumb on purpose. It binds surfaces by position, reads
 * model.mil and the weights from the program's directory, runs them on the emulator, and can be told to fail in every
 * way that the framework fails. These functions are how a test tells it. A name that is not listed here ends the
 * process. */
#ifndef FAKE_ANE_H
#define FAKE_ANE_H

#include "device/ane.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Well-behaved again: no failures, nothing hidden, settings at their defaults, no compiled programs kept, counts at 0
 * (not those of living objects). */
ANE_API void fake_ane_reset(void);

/* Settings, default 0 unless said:
 *   cache              1: compiledModelExists says YES for what was compiled since the last reset
 *   attributes (1)     0: modelAttributes is empty
 *   reverse_order      1: symbols stand in descending order, and are bound so
 *   symbol_suffix      ports are called NAME@port in modelAttributes
 *   own_symbols        ports have names there that the text does not
 *   row_stride_extra   bytes added to the RowStride that modelAttributes reports
 *   extra_port         1: modelAttributes lists the first input twice
 *   refuse_no_weights  1: weights @{} give a nil descriptor; 2: so does nil
 *   invalid_request    1: -validate says NO
 *   stall_ms           an evaluation takes that much longer
 *   extra_retain       1: new objects get one reference too many, as if a release were missing, until the next reset
 *   throw_string       1: steps that throw do not throw an NSException
 *   lock_code          IOSurfaceLock returns this
 *   has_ane (1), virtual_machine
 *   executor           ane_executor of the emulator underneath
 * Of what only probes do:
 *   qos (21)           the QoS that the next calls are to come with
 *   probing            1: requests may carry more than surfaces
 *   frozen (1)         0: a model that is loaded again reads its files again
 *   procedures         a program has so many, and another index fails; 0: one, and the index does not matter
 *   weights_buffer     1: a request's buffer takes the place of the weights
 *   hardware_ns        statistics of a request say so much; 0: there are none
 *   mask               1: a model with a perfStatsMask loads
 *   events             a request with events 0: crashes, 1: works, 2: hangs while this is 2
 *   real_time          1: beginRealTimeTask says YES
 *   chaining           1: a chain can be prepared */
ANE_API void fake_ane_set(const char *setting, int64_t value);
/* "profile" (default: exact) and "rules" of the emulator underneath, as in ane_options. "other_encoding": a selector
 * that the framework has with other types than one knows. */
ANE_API void fake_ane_set_text(const char *setting, const char *text);

/* The next `times` calls of a step fail. Steps: descriptor, model, identifier, compile, load, demand (a compile that a
 * load brings about), attributes, surface_object, request, evaluate, unload, surface, device_info; and of what only
 * probes do: inner_model, program, mask, client, direct, real_time, process, connection, begin, end, statistics, event,
 * signal_event, shared_events, buffer, output_sets, chaining_request, output_set, inputs_ready, prepare, enqueue,
 * buffers_ready. How: "no" (NO or nil, without a reason), "error" (NO with an NSError of this domain, code and text),
 * "throw" (an NSException of this name and text). */
ANE_API void fake_ane_fail(const char *step, const char *how, const char *domain, int64_t code, const char *text,
                           uint64_t times);

/* "framework"; a class, as "_ANERequest"; or a method, as "-[_ANEInMemoryModel unloadWithQoS:error:]". */
ANE_API void fake_ane_hide(const char *name);

/* Calls: of every step. Objects alive: live_descriptors, live_models, live_requests, live_surface_objects,
 * live_surfaces, live_others, and `live`, their sum. misuses: things that the real framework would punish later, see
 * fake_ane_misuse. */
ANE_API int64_t fake_ane_count(const char *what);
/* The latest misuse since the last reset, or "". */
ANE_API const char *fake_ane_misuse(void);

#ifdef __cplusplus
}
#endif
#endif
