// Ctrl-C and SIGTERM as something to be asked for, so that a tool can say what it has so far. A second
// signal ends the process at once. One for the process; any thread may ask.
#ifndef LATENTD_TOOLS_INTERRUPT_H_
#define LATENTD_TOOLS_INTERRUPT_H_

#include <csignal>

namespace latentd {

namespace interrupt_internal {
inline volatile std::sig_atomic_t received = 0;
inline void Note(int /*signal*/) { received = 1; }
}  // namespace interrupt_internal

// From now on the first signal only makes Interrupted true. Calls that sleep return early.
inline void CatchInterrupts() {
  struct sigaction action = {};
  action.sa_handler = interrupt_internal::Note;
  action.sa_flags = SA_RESETHAND;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

inline bool Interrupted() { return interrupt_internal::received != 0; }

}  // namespace latentd

#endif  // LATENTD_TOOLS_INTERRUPT_H_
