#include "border.h"

#include <algorithm>
#include <cstring>

#include "../signature.h"
#include "errors.h"

namespace ane {

static Port describe(const Value &value, size_t declared) {
  Port port;
  const std::string dtype = dtype_name(value.type.dtype);
  if (value.name.size() >= sizeof port.port.name)
    invalid_program(value.pos, format("port name `%.40s...` has %zu characters; at most %zu fit", value.name.c_str(),
                                      value.name.size(), sizeof port.port.name - 1));
  memset(&port.port, 0, sizeof port.port);
  memcpy(port.port.name, value.name.c_str(), value.name.size());
  memcpy(port.port.dtype, dtype.c_str(), std::min(dtype.size(), sizeof port.port.dtype - 1));
  const Shape &shape = value.type.shape;
  const bool fits = shape.size() <= std::size(port.port.shape);
  port.port.rank = static_cast<int32_t>(shape.size());
  if (fits) std::copy(shape.begin(), shape.end(), port.port.shape);
  if (!fits || !ane_port_layout(&port.port))
    invalid_program(value.pos, format("port `%s` of type %s has no layout on a surface", value.name.c_str(),
                                      type_text(value.type).c_str()));
  port.declared = declared;
  port.row_bytes = static_cast<size_t>(shape.empty() ? 1 : shape.back()) * dtype_bytes(value.type.dtype);
  port.rows = port.port.row_stride ? port.port.bytes / port.port.row_stride : 0;
  return port;
}

std::vector<Port> device_ports(const Graph &graph, const std::vector<int> &values) {
  std::vector<Port> ports;
  for (size_t i = 0; i < values.size(); i++) ports.push_back(describe(graph.values[values[i]], i));
  std::sort(ports.begin(), ports.end(),
            [](const Port &a, const Port &b) { return strcmp(a.port.name, b.port.name) < 0; });
  return ports;
}

void pack_rows(const Port &port, const uint8_t *surface, uint8_t *dense) {
  for (size_t r = 0; r < port.rows; r++)
    memcpy(dense + r * port.row_bytes, surface + r * port.port.row_stride, port.row_bytes);
}

void unpack_rows(const Port &port, const uint8_t *dense, uint8_t *surface) {
  for (size_t r = 0; r < port.rows; r++)
    memcpy(surface + r * port.port.row_stride, dense + r * port.row_bytes, port.row_bytes);
}

}  // namespace ane
