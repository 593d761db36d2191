"""Class names of the labelled benchmarks, in the order of their label files.

The configs take them from here, so that a list of 200 names stands in one place. Sources: the benchmarks' own label
lists (ScanNet, ScanNet200, ScanNet++ top 100, S3DIS), and ``data_tools.synthetic`` for the synthetic rooms.
"""

from __future__ import annotations


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.replace("\n", " ").split(",")]


SCANNET_20 = _split("""
wall, floor, cabinet, bed, chair, sofa, table, door, window, bookshelf, picture, counter, desk, curtain,
refridgerator, shower curtain, toilet, sink, bathtub, otherfurniture
""")

SCANNET_200 = _split("""
wall, chair, floor, table, door, couch, cabinet, shelf, desk, office chair, bed, pillow, sink, picture, window,
toilet, bookshelf, monitor, curtain, book, armchair, coffee table, box, refrigerator, lamp, kitchen cabinet,
towel, clothes, tv, nightstand, counter, dresser, stool, cushion, plant, ceiling, bathtub, end table, dining
table, keyboard, bag, backpack, toilet paper, printer, tv stand, whiteboard, blanket, shower curtain, trash can,
closet, stairs, microwave, stove, shoe, computer tower, bottle, bin, ottoman, bench, board, washing machine,
mirror, copier, basket, sofa chair, file cabinet, fan, laptop, shower, paper, person, paper towel dispenser,
oven, blinds, rack, plate, blackboard, piano, suitcase, rail, radiator, recycling bin, container, wardrobe, soap
dispenser, telephone, bucket, clock, stand, light, laundry basket, pipe, clothes dryer, guitar, toilet paper
holder, seat, speaker, column, bicycle, ladder, bathroom stall, shower wall, cup, jacket, storage bin, coffee
maker, dishwasher, paper towel roll, machine, mat, windowsill, bar, toaster, bulletin board, ironing board,
fireplace, soap dish, kitchen counter, doorframe, toilet paper dispenser, mini fridge, fire extinguisher, ball,
hat, shower curtain rod, water cooler, paper cutter, tray, shower door, pillar, ledge, toaster oven, mouse,
toilet seat cover dispenser, furniture, cart, storage container, scale, tissue box, light switch, crate, power
outlet, decoration, sign, projector, closet door, vacuum cleaner, candle, plunger, stuffed animal, headphones,
dish rack, broom, guitar case, range hood, dustpan, hair dryer, water bottle, handicap bar, purse, vent, shower
floor, water pitcher, mailbox, bowl, paper bag, alarm clock, music stand, projector screen, divider, laundry
detergent, bathroom counter, object, bathroom vanity, closet wall, laundry hamper, bathroom stall door, ceiling
light, trash bin, dumbbell, stair rail, tube, bathroom cabinet, cd case, closet rod, coffee kettle, structure,
shower head, keyboard piano, case of water bottles, coat rack, storage organizer, folded chair, fire alarm,
power strip, calendar, poster, potted plant, luggage, mattress
""")

SCANNETPP_100 = _split("""
wall, ceiling, floor, table, door, ceiling lamp, cabinet, blinds, curtain, chair, storage cabinet, office chair,
bookshelf, whiteboard, window, box, window frame, monitor, shelf, doorframe, pipe, heater, kitchen cabinet,
sofa, windowsill, bed, shower wall, trash can, book, plant, blanket, tv, computer tower, kitchen counter,
refrigerator, jacket, electrical duct, sink, bag, picture, pillow, towel, suitcase, backpack, crate, keyboard,
rack, toilet, paper, printer, poster, painting, microwave, board, shoes, socket, bottle, bucket, cushion,
basket, shoe rack, telephone, file folder, cloth, blind rail, laptop, plant pot, exhaust fan, cup, coat hanger,
light switch, speaker, table lamp, air vent, clothes hanger, kettle, smoke detector, container, power strip,
slippers, paper bag, mouse, cutting board, toilet paper, paper towel, pot, clock, pan, tap, jar, soap dispenser,
binder, bowl, tissue box, whiteboard eraser, toilet brush, spray bottle, headphones, stapler, marker
""")

# ScanNet++ labels that are not instances (walls, floors, frames, ...), and -1 for unlabelled points
SCANNETPP_STUFF = (-1, 0, 1, 2, 16, 19, 20, 24, 26, 33, 36, 48, 53, 63, 64, 73, 74)

S3DIS_13 = _split("""
ceiling, floor, wall, beam, column, window, door, table, chair, sofa, bookcase, board, clutter
""")

SYNTHETIC_24 = _split("""
wall, floor, ceiling, door, window, bed, sofa, chair, table, desk, cabinet, shelf, counter, sink, toilet, bathtub,
fridge, tv, lamp, rug, curtain, plant, picture, clutter
""")
