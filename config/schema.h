// The schema of the whole configuration file: one table of keys, each with its type, bounds,
// default and documentation.
//
// Pure; any thread.
#ifndef LATENTD_CONFIG_SCHEMA_H_
#define LATENTD_CONFIG_SCHEMA_H_

#include <vector>

#include "config/config.h"
#include "config/key.h"

namespace latentd {

const Schema<Config>& ConfigSchema();

// Every key, with its path from the root of the file.
std::vector<KeyDoc> ConfigDocs();

}  // namespace latentd

#endif  // LATENTD_CONFIG_SCHEMA_H_
