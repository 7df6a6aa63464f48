// nibble quantize SRC -o OUT --to LEVEL: a smaller file.
#include <memory>

#include "cli/command.h"
#include "cli/quantize_report.h"

namespace nibble::cli {

Run add_quantize(CLI::App& app) {
  auto command = std::make_shared<QuantizeCommand>();
  app.description(
      "Quantize a checkpoint into a GGUF file, or into a checkpoint for Transformers, vLLM or "
      "MLX.");
  add_common_options(app, *command);
  app.add_option(
      "--to", command->options.target,
      "a level (Q4_K_M, IQ4_XS, ...: a mixture of formats, as in llama.cpp) or a format "
      "in lower case (q4_k: every matrix), as a GGUF file; or a Hugging Face checkpoint: "
      "gptq:int{2,3,4,8}[-gN][-asym][-actorder][-v2], awq:int4[-gN], bnb:nf4, bnb:fp4, bnb:int8, "
      "ct:w4a16[-gN][-asym], ct:w8a16, ct:w8a8, ct:fp8[-static], ct:mxfp4, ct:nvfp4, "
      "mlx:int4[-gN]");
  add_bytes(app, "--size", command->options.budget.bytes,
            "instead of a level: the most bytes the file may take (5GiB, 90MB, ...); each "
            "matrix gets the format with which the model loses least");
  app.add_option("--bpw", command->options.budget.bits_per_weight,
                 "instead of a level: bits per weight, over all tensors");
  app.add_option("--kld", command->options.budget.kld,
                 "instead of a level: the KL divergence (nats a token) that the smallest file may "
                 "cost");
  app.add_option("--formats", command->options.formats,
                 "what --size, --bpw and --kld choose from (q4_k,q6_k,...); default: everything "
                 "GGUF has")
      ->delimiter(',');
  app.add_option("--plot", command->plot,
                 "with a budget: draw size against KL divergence into this SVG file");
  app.add_option("--recipe", command->options.recipe,
                 "[transform+]rounding[:level], rounding: gptq (error feedback), gptaq (the same "
                 "toward the outputs of the full-precision model), importance or nearest; "
                 "transforms: awq, fold, hadamard, rotate, smoothquant; default: the best one "
                 "whose cost is reasonable here, which it says");
  app.add_flag("--fast", command->options.fast, "importance rounding instead of error feedback");
  app.add_option(
      "--calib", command->options.calibration,
      "an importance matrix (.gguf or .dat, from nibble calibrate or llama-imatrix), or a "
      "text or .jsonl of messages to run the model on first; without it the model writes its "
      "own text");
  app.add_option(
         "--calib-chunks", command->options.calibration_chunks,
         "windows of 512 tokens of that text; 0: 256 for error feedback, all for importance "
         "(32 and 16 of its own)")
      ->capture_default_str();
  add_bytes(app, "--memory", command->options.memory_bytes,
            "the most memory to use (12GiB): what does not fit waits in a file beside the "
            "output; refused beforehand where even that is not enough");
  app.add_flag("--profile", command->options.profile,
               "show where the time went, and how near that is to what OpenBLAS reaches");
  app.footer(
      "Examples:\n"
      "  nibble quantize ./SmolLM2-135M -o small.gguf --to Q4_K_M\n"
      "  nibble quantize model-f16.gguf -o small.gguf --to IQ4_XS --calib imatrix.gguf\n"
      "  nibble quantize ./model -o small.gguf --to Q3_K_M --override 'ffn_down=q5_k' "
      "--override 'blk\\.0\\.=q6_k'\n"
      "  nibble quantize ./model -o small.gguf --to IQ4_XS --calib train.txt --calib-chunks 64\n"
      "  nibble quantize ./model -o small.gguf --to Q4_K_M --fast\n"
      "  nibble quantize ./model -o small.gguf --size 5GiB --recipe gptq --calib train.txt "
      "--plot sizes.svg\n"
      "  nibble quantize ./model -o small.gguf --kld 0.02 --formats q4_k,q5_k,q6_k,q8_0\n"
      "  nibble quantize ./model -o model-gptq --to gptq:int4-g64 --calib train.txt\n"
      "  nibble quantize ./model -o model-awq --to awq:int4-g128 --recipe awq+gptq\n"
      "  nibble quantize ./model -o model-nf4 --to bnb:nf4\n"
      "  nibble quantize ./model --to Q4_K_M --dry-run");
  return [command] { return run_quantize(*command); };
}

}  // namespace nibble::cli
