// A program's border: its ports in device order, and rows moved between surfaces (padded to 64 bytes) and the dense
// tensors that executors work on.
#ifndef ANETRAIN_EMULATOR_BORDER_H
#define ANETRAIN_EMULATOR_BORDER_H

#include <cstdint>
#include <vector>

#include "../ane.h"
#include "ir.h"

namespace ane {

struct Port {
  ane_port port;
  size_t declared = 0;  // its index among the declared inputs or outputs
  size_t row_bytes = 0, rows = 0;
  size_t dense_bytes() const { return row_bytes * rows; }
  bool is_padded() const { return dense_bytes() != port.bytes; }
};

// `values`: graph.inputs or graph.outputs. In device order: names ascending in ASCII.
std::vector<Port> device_ports(const Graph &graph, const std::vector<int> &values);

void pack_rows(const Port &port, const uint8_t *surface, uint8_t *dense);
void unpack_rows(const Port &port, const uint8_t *dense, uint8_t *surface);

}  // namespace ane
#endif
