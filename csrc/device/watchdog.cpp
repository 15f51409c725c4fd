#include "watchdog.h"

#include <chrono>
#include <condition_variable>
#include <thread>

#include "error.h"

namespace ane {

struct Lane {
  enum class State { Idle, Working, Done, Closing };

  std::mutex mutex;
  std::condition_variable changed;
  State state = State::Idle;
  bool given_up = false;
  LaneJob job;
  ane_status status = ANE_OK;
  ane_error error{};
  std::thread thread;
};

// The thread shares the lane, so that a lane that was given up lives as long as its evaluation.
static void work(const std::shared_ptr<Lane> &lane) {
  std::unique_lock lock(lane->mutex);
  for (;;) {
    lane->changed.wait(lock,
                       [&] { return lane->state == Lane::State::Working || lane->state == Lane::State::Closing; });
    if (lane->state == Lane::State::Closing) return;
    const LaneJob job = std::move(lane->job);
    lock.unlock();
    if (job.stall_ms) std::this_thread::sleep_for(std::chrono::milliseconds(job.stall_ms));
    lock.lock();
    if (lane->given_up) return;
    lock.unlock();
    const ane_status status = job.call(&lane->error);
    lock.lock();
    lane->status = status;
    lane->state = Lane::State::Done;
    lane->changed.notify_all();
    if (lane->given_up) return;
  }
}

std::shared_ptr<Lane> Watchdog::take_lane() {
  std::lock_guard lock(mutex_);
  if (!idle_.empty()) {
    std::shared_ptr<Lane> lane = std::move(idle_.back());
    idle_.pop_back();
    return lane;
  }
  auto lane = std::make_shared<Lane>();
  lane->thread = std::thread([lane] { work(lane); });
  return lane;
}

bool Watchdog::run(LaneJob job, uint32_t timeout_ms, ane_status *status, ane_error *error) {
  std::shared_ptr<Lane> lane = take_lane();
  {
    std::unique_lock lock(lane->mutex);
    lane->job = std::move(job);
    clear_error(&lane->error);
    lane->state = Lane::State::Working;
    lane->changed.notify_all();
    const auto limit = std::chrono::milliseconds(timeout_ms);
    if (!lane->changed.wait_for(lock, limit, [&] { return lane->state == Lane::State::Done; })) {
      lane->given_up = true;
      lane->thread.detach();
      return false;
    }
    *status = lane->status;
    if (error && *status != ANE_OK) *error = lane->error;
    lane->state = Lane::State::Idle;
  }
  std::lock_guard lock(mutex_);
  idle_.push_back(std::move(lane));
  return true;
}

Watchdog::~Watchdog() {
  for (const std::shared_ptr<Lane> &lane : idle_) {
    {
      std::lock_guard lock(lane->mutex);
      lane->state = Lane::State::Closing;
      lane->changed.notify_all();
    }
    lane->thread.join();
  }
}

}  // namespace ane
