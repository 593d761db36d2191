"""Post-processing of reconstructed clouds, a step a module; `data_tools.postprocess` is the stage."""
