"""Runs a model by LiteRT: a line for its input and one for its output, then bytes of an output for bytes of an input."""

import os
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # whatever the runtime prints
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
(image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
for tensor in (image, output):
    values = interpreter.get_tensor(tensor["index"])
    fields = [values.dtype.name.upper(), values.nbytes, *tensor["quantization"], *values.shape]
    answers.write((" ".join(map(str, fields)) + "\n").encode())
answers.flush()
content = interpreter.get_tensor(image["index"])
while given := sys.stdin.buffer.read(content.nbytes):
    interpreter.set_tensor(image["index"], np.frombuffer(given, content.dtype).reshape(content.shape))
    interpreter.invoke()
    answers.write(interpreter.get_tensor(output["index"]).tobytes())
    answers.flush()
