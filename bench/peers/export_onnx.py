"""Write the network as ONNX files for onnxruntime: export_onnx.py MODEL FOLDER BATCH...

Two forms of the same graph, of static shape [BATCH, 3, side, side]:

- lego-BATCH-standard.onnx: standard operators only, as any exporter would write it; onnxruntime finds what it can
  fuse by itself;
- lego-BATCH-fused.onnx: attention and GELU as onnxruntime's own operators (com.microsoft MultiHeadAttention and
  FastGelu), which its optimiser would otherwise have to recognise.
"""
import os
import sys
import warnings

import torch
import torch.nn.functional as F

from lego_torch import Attention, Block, Lego


class StandardBlock(Block):
    @staticmethod
    def gelu(x):
        return F.gelu(x, approximate="tanh")


class ExportedLego(Lego):
    def modulate(self, c):
        return F.linear(c, self.modulation_w, self.modulation_b)


class MultiHeadAttention(torch.autograd.Function):
    """A placeholder that exports as one operator; the query weights already carry the 1/sqrt(d)."""

    @staticmethod
    def forward(ctx, q, k, v, heads):
        return q.clone()

    @staticmethod
    def symbolic(g, q, k, v, heads):
        node = g.op("com.microsoft::MultiHeadAttention", q, k, v, num_heads_i=heads, scale_f=1.0)
        node.setType(q.type())
        return node


class FastGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def symbolic(g, x):
        node = g.op("com.microsoft::FastGelu", x)
        node.setType(x.type())
        return node


class FusedAttention(Attention):
    def forward(self, qkv):
        q, k, v = qkv.chunk(3, -1)
        return MultiHeadAttention.apply(q, k, v, self.heads)


class FusedBlock(Block):
    @staticmethod
    def gelu(x):
        return FastGelu.apply(x)


FORMS = {"standard": (Attention, StandardBlock), "fused": (FusedAttention, FusedBlock)}


def inputs(model, batch):
    config = model.config
    side = config["image_size"]
    return (torch.randn(batch, config["channels"], side, side), torch.ones(batch),
            torch.zeros(batch, max(1, config["num_classes"])))


def main(path, folder, batches):
    os.makedirs(folder, exist_ok=True)
    warnings.filterwarnings("ignore")  # shapes become constants: that is what a static graph is
    for form, (attention, block) in FORMS.items():
        model = ExportedLego(path, attention, block).eval()
        for batch in batches:
            torch.onnx.export(model, inputs(model, batch), "%s/lego-%d-%s.onnx" % (folder, batch, form),
                              input_names=["x", "sigma", "label"], output_names=["d"], opset_version=17,
                              custom_opsets={"com.microsoft": 1} if form == "fused" else None, do_constant_folding=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [int(batch) for batch in sys.argv[3:]])
