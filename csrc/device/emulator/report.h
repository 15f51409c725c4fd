// What a program costs, counted from its graph.
#ifndef ANETRAIN_EMULATOR_REPORT_H
#define ANETRAIN_EMULATOR_REPORT_H

#include <string>
#include <vector>

#include "executor.h"
#include "ir.h"

namespace ane {

// A multiply and an add are two. Elementwise operations count one for each element, layout none.
int64_t node_flops(const NodeView &node);

// JSON object: operations (each kind: count, flops, bytes), totals, constant bytes, warnings, the executor.
std::string report_json(const Graph &graph, const std::vector<std::string> &warnings, const char *executor_name,
                        const Executor &executor, bool was_prepared);

}  // namespace ane
#endif
