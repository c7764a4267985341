"""Names of the columns that hold pictures, and of what belongs to them."""

CROP_KINDS = ("aux", "rcnn")
CROP_COLUMNS = tuple(f"{kind}_crops" for kind in CROP_KINDS)
PICTURE_COLUMNS = ("image", *CROP_COLUMNS)  # of a row
OBJECT_COLUMNS = tuple(f"{kind}_objects" for kind in CROP_KINDS)  # what a detector said of each crop
PIXEL_MASKS = {"pixel_values": "image_mask"} | {f"{kind}_pixel_values": f"{kind}_crop_mask" for kind in CROP_KINDS}
