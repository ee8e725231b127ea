"""The colours of objects: ten that people with any kind of colour vision tell apart.

Source: Matthew A. Petroff, "Accessible Color Sequences for Data Visualization" (https://arxiv.org/abs/2107.02270), the sequence
of ten colours. The eleventh object begins again at the first; the page also writes each object's number on it.
"""

COLORS = (
    (63, 144, 218),
    (255, 169, 14),
    (189, 31, 1),
    (148, 164, 162),
    (131, 45, 182),
    (169, 107, 89),
    (231, 99, 0),
    (185, 172, 112),
    (113, 117, 129),
    (146, 218, 221),
)
