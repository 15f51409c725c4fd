#include "generic_step.h"

#include "../reference.h"

namespace ane::fast {

namespace {

class GenericStep : public Step {
 public:
  GenericStep(const GenericUnit &unit, const GenericContext &context)
      : unit_(unit), graph_(context.graph), profile_(*context.options.profile), arithmetic_(make_exact_arithmetic()) {}

  void run(Bases bases) const override {
    std::vector<const float *> values(graph_->values.size(), nullptr);
    for (size_t i = 0; i < unit_.inputs.size(); ++i) {
      const View &view = unit_.inputs[i];
      values[static_cast<size_t>(unit_.input_values[i])] = floats_at(bases, view.buffer, view.offset);
    }
    std::vector<float *> outputs;
    for (const View &view : unit_.outputs) outputs.push_back(floats_at(bases, view.buffer, view.offset));
    const NodeView node(*graph_, graph_->nodes[static_cast<size_t>(unit_.node)]);
    run_node(NodeRun(node, profile_, *arithmetic_, values.data(), std::move(outputs)));
  }

 private:
  const GenericUnit unit_;
  const std::shared_ptr<const Graph> graph_;
  const Profile &profile_;
  const std::unique_ptr<Arithmetic> arithmetic_;
};

}  // namespace

std::unique_ptr<Step> make_generic_step(const GenericUnit &unit, const GenericContext &context) {
  return std::make_unique<GenericStep>(unit, context);
}

}  // namespace ane::fast
