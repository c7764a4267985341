def test_tv(tiny_detector):
    from processing.crops import ObjectDetector
    for n in ("grounding-dino","owlv2","detr","rt_detr"):
        d=ObjectDetector.from_pretrained(tiny_detector(n)); p=d.processor
        print(n, type(getattr(p,"image_processor",p)).__name__)
