"""Compare timm's vision transformers: which one propagates the masks of a clip best?

python examples/any_backbone.py                            # the embedded model and DINO (a download of 86 MB)
python examples/any_backbone.py timm:vit_small_patch16_dinov3.lvd1689m timm:vit_base_patch16_224.mae --size 320
python examples/any_backbone.py timm:vit_small_patch16_224 --no-pretrained
"""

import argparse

import numpy as np

import siammae
from siammae.evaluation.metrics import region_similarity
from siammae.synthetic import render_clip

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("models", nargs="*", metavar="MODEL", default=["vitt8d6", "timm:vit_small_patch16_224.dino"])
parser.add_argument("--no-pretrained", action="store_true", help="use initial weights and download nothing")
parser.add_argument("--frames", type=int, default=24, help="length of the rendered clip")
parser.add_argument("--size", type=int, help="shorter side in pixels at which frames are encoded; default: 30 patches")
args = parser.parse_args()

clip = render_clip(args.frames)
width = max(map(len, args.models))
print(f"{'model':{width}}  patch  channels  parameters  J koi  J turtle")
for name in args.models:
    model = siammae.load_model(name, pretrained=not args.no_pretrained)
    masks = siammae.propagate_labels(clip.frames, clip.masks[0], model, size=args.size)
    koi, turtle = (
        np.mean([region_similarity(truth == animal, mask == animal) for truth, mask in zip(clip.masks, masks, strict=True)][1:])
        for animal in (1, 2)
    )
    parameters = f"{model.num_parameters / 1e6:.1f} M"
    print(f"{name:{width}}  {model.patch_size:5}  {model.embed_dim:8}  {parameters:>10}  {koi:5.3f}  {turtle:8.3f}")
