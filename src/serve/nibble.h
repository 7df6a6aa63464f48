// What nibble's page needs beside the two APIs: the page itself, and the paths under /nibble.
#pragma once

#include "serve/api.h"

namespace nibble {

/// The page at /, one document that loads nothing. Its scripts and styles run by their hashes only.
ServerReply nibble_page(const ServerRequest& http);

/// What the models do now, and the memory of the process.
ServerReply nibble_status(const ModelTable& models);

/// How far the predictions of `model` are from those of `reference`, for each token of a text that
/// follows a prompt. Both models need the same vocabulary.
ServerReply nibble_compare(ModelTable& models, const ApiLimits& limits, const ServerRequest& http);

/// Which levels of a model fit this machine: the JSON of nibble/advise.h. Takes some seconds.
ServerReply nibble_advise(const ModelTable& models, const ServerRequest& http);

}  // namespace nibble
