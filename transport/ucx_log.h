// UCX writes a line to the process's standard output for each connection that fails, besides
// returning the error. latentd says the same in its own words (a typed error, a line of the log),
// and a library has no business on its host's output.
#ifndef LATENTD_TRANSPORT_UCX_LOG_H_
#define LATENTD_TRANSPORT_UCX_LOG_H_

namespace latentd {

// From now on UCX does not write of connections over tcp that fail. All else that it logs is left
// as it is: warnings, other errors, and everything in a process whose environment sets
// UCX_LOG_LEVEL, for whoever sets it wants to read. Holds for the whole process: UCX knows no
// smaller unit. Any thread; again: nothing happens.
void QuietUcxConnections();

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_UCX_LOG_H_
