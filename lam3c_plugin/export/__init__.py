"""The network as ONNX or a torch.export program."""
