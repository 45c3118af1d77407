// A repair of UCX from outside: the order in which its tcp transport hears of events.
//
// When a socket is readable and writable at once, UCX's tcp (1.22.0 and before) handles what can be
// read first. If that is the peer's goodbye to a connection that was closed here too, with output
// still waiting, it frees the connection, and then handles the writing on freed memory: it jumps
// through a table at an index that malloc has overwritten. A peer that dies, or is given up, while
// large payloads are on their way to it hits this in one of a few dozen cases.
//
// So this library defines ucs_event_set_wait, in front of UCX's own, and hands the two events on
// one after the other, writing first: nothing touches the connection after the reading that may
// free it. Whoever links :worker has it, as long as it was not loaded after another copy of UCX.
#ifndef LATENTD_TRANSPORT_UCX_EVENTS_H_
#define LATENTD_TRANSPORT_UCX_EVENTS_H_

namespace latentd {

// To be called before UCX is used; does nothing but bring this library into the binary.
void OrderUcxEvents();

// Whether a library of UCX has called the function of this one. Any thread.
bool UcxEventsAreOrdered();

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_UCX_EVENTS_H_
