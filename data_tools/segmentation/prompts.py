"""Texts that CLIP compares frames with: templates times names (a prompt ensemble), and what is no room."""

from __future__ import annotations

TEMPLATES = (
    "a photo of {}.",
    "a video frame of {}.",
    "a blurry photo of {}.",
    "a dark photo of {}.",
    "a wide-angle photo of {}.",
    "a real estate photo of {}.",
    "a still from a house tour showing {}.",
)
INDOOR = (
    "the inside of a house",
    "an indoor room",
    "the interior of an apartment",
    "a furnished room",
    "an empty room",
)
OUTDOOR = (
    "the outside of a house",
    "a house seen from the street",
    "a garden",
    "a backyard with a swimming pool",
    "a street with cars",
    "an aerial view of a neighbourhood",
    "an apartment building from outside",
    "a terrace under the sky",
    "a landscape",
)
OTHER = (
    "a title screen with text",
    "a company logo",
    "a floor plan drawing",
    "a map",
    "a person talking to the camera",
    "a black screen",
    "a television test pattern",
)
ROOMS = {
    "living room": ("a living room", "a lounge with a sofa", "a family room with a television"),
    "bedroom": ("a bedroom", "a room with a bed"),
    "bathroom": ("a bathroom", "a room with a shower and a toilet", "a bathroom with a sink and a mirror"),
    "kitchen": ("a kitchen", "a kitchen with cabinets and a stove", "a kitchen island"),
    "dining room": ("a dining room", "a dining table with chairs"),
    "hallway": ("a hallway", "a corridor in a house", "an entrance hall"),
    "home office": ("a home office", "a room with a desk and a computer"),
    "laundry room": ("a laundry room", "a room with a washing machine"),
    "walk-in closet": ("a walk-in closet", "a dressing room with wardrobes"),
    "staircase": ("a staircase in a house", "indoor stairs"),
    "basement": ("a basement", "a cellar room"),
    "garage": ("the inside of a garage",),
}


def room_prompts(name: str) -> tuple[str, ...]:
    """Descriptions of a room type; of a name that is not listed, the name itself."""
    article = "an" if name[:1].lower() in "aeiou" else "a"
    return ROOMS.get(name, (f"{article} {name}",))


def expand(descriptions: tuple[str, ...]) -> list[str]:
    """Every template with every description."""
    return [template.format(description) for description in descriptions for template in TEMPLATES]
