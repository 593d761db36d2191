#!/bin/sh
# Draws the pictures of docs/tour.md with the commands that the page shows, from the weights of this package.
#   sh scripts/make_tour.sh
# The committed pictures are these in 256 colours, the legend's among them.
# PY: the Python to use; CHECKPOINT: the weights; OUT: where the results go; IMAGES: where the pictures go.
set -e
cd "$(dirname "$0")/.."
PY=${PY:-python}
CHECKPOINT=${CHECKPOINT:-lam3c-tiny}
OUT=${OUT:-out/tour}
IMAGES=${IMAGES:-docs/images}
LAM3C="$PY -m lam3c_main"
room=synthetic_09000_00000_clean
encoder="--checkpoint $CHECKPOINT --size 300x225"

make_rooms() {
  "$PY" -m data_tools.synthetic.rooms.generate --out "$OUT/rooms" --noise clean --points 60000 "$@"
}
make_rooms --num 8 --seed 100
make_rooms --num 2 --seed 9000 --split val
$LAM3C pca "$OUT/rooms/val/$room" $encoder --out "$OUT" --view --no-open
$LAM3C similarity "$OUT/rooms/val/$room" $encoder --pick 3.74,2.24,0.44 --out "$OUT" --view --no-open
$LAM3C probe --data "$OUT/rooms" $encoder --out "$OUT/probe" --save-head "$OUT/head.pth" --view --no-open
$LAM3C segment "$OUT/rooms/val/$room" $encoder --head "$OUT/head.pth" --out "$OUT" --view --no-open
mkdir -p "$IMAGES"
for name in pca similarity segment; do
  cp "$OUT/${room}_$name.png" "$IMAGES/tour_$name.png"
done
