// Rules of the calls of ane_raw.h. raw.cpp acts on them; beside each: what happens without it.
#include "rules.h"

namespace ane {

namespace {

RuleSpec raw(const char *name, const char *summary, const char *source, const char *unit = "", double number = 1,
             const char *error = "") {
  return {name, summary, source, Stage::Raw, unit, number, error};
}

}  // namespace

const std::vector<RuleSpec> &raw_rules() {
  static const std::vector<RuleSpec> rules = {
      // Off: the program computes with the new files.
      raw("weights-frozen", "a program whose files are rewritten keeps, loaded again, the weights it was compiled with",
          "ANE_FACTS C3, 1.15: MAD, M0, LA, H3; against: ORI"),
      // Off: such a load fails, unless the device has compiled this text with these weights (compiled-model-cache).
      raw("load-compiles", "a load without a compile compiles what was not compiled before",
          "ANE_FACTS 1.3.2, 1.15: DEC; ORI, ESP"),
      // Off: the buffer holds the data of all BLOBFILE constants, back to back in the order of the text.
      raw("weights-buffer-ignored", "the weights buffer of a request is not read", "ANE_FACTS C4, 1.4: MAD, M0, H3"),
      // Off: a program of one procedure takes the index 0 only.
      raw("procedure-index-ignored", "a program of one procedure takes procedure indices up to 15 for 0",
          "ANE_FACTS 1.4: MAD", "index", 15),
      // Off: 9, 17, 21, 25 and 33 are taken, which are those that the framework gives a priority.
      raw("qos-range", "every quality of service up to 63 is taken, and none is faster",
          "ANE_FACTS 1.10, C78: MAD, M0; DEC", "quality of service", 63),
      // Off: a request with statistics knows the time of its run, and any mask loads.
      raw("no-performance-stats", "no statistics object can be made, and a program with a mask of them does not load",
          "ANE_FACTS 1.8: MAD, H3", "", 1, kMaskError),
      // Off: the chain runs.
      raw("chaining-unavailable", "a chain of requests cannot be prepared", "ANE_FACTS C58, 1.12: M0, ESP, LA, P40; AI",
          "", 1, kChainingError),
      // Off: the request runs.
      raw("shared-events", "a request with shared events: 1 crashes the process, 2 never returns",
          "ANE_FACTS C59, 1.12: LA, ESP", "1 crash, 2 hang", 1),
      // Off: beginRealTimeTask says YES.
      raw("real-time-denied", "beginRealTimeTask says NO; the real-time path evaluates all the same",
          "ANE_FACTS 1.6, C79: P40, ESP"),
  };
  return rules;
}

}  // namespace ane
