"""Names of the columns that hold pictures, and of what belongs to them."""

CROP_KINDS = ("aux", "rcnn")


PICTURE_COLUMNS = ("image", *(f"{kind}_crops" for kind in CROP_KINDS))  # of a row


PIXEL_MASKS = {"pixel_values": "image_mask"} | {f"{kind}_pixel_values": f"{kind}_crop_mask" for kind in CROP_KINDS}


OBJECT_COLUMNS = tuple(f"{kind}_objects" for kind in CROP_KINDS)


CROP_COLUMNS = tuple(f"{kind}_crops" for kind in CROP_KINDS)
