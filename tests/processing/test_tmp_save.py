def test_save(tiny_detector):
    import shutil
    for n in ("grounding-dino","owlv2","detr","rt_detr","mm-grounding-dino"):
        shutil.rmtree("/tmp/work/crops/det/"+n, ignore_errors=True); shutil.copytree(tiny_detector(n),"/tmp/work/crops/det/"+n)
