"""The exemplar memory: ids of clips kept from earlier classes, a fixed total shared evenly by the classes."""

import random


class ExemplarMemory:
    """``clips[class]`` are the video ids kept, best first. Features stay in the data; the memory never pads."""

    def __init__(self, size):
        self.size = size
        self.clips = {}

    def quota(self, num_classes):
        """Exemplars per class when ``num_classes`` have been learned."""
        return self.size // num_classes

    def update(self, task, choose):
        """After ``task``: cut older classes to the new quota, and add ``choose(task, quota)``, {class: ids}."""
        quota = self.quota(task.stop)
        self.clips = {label: videos[:quota] for label, videos in self.clips.items()} | choose(task, quota)

    def ids(self):
        """All ids, class by class in class order."""
        return [video for label in sorted(self.clips) for video in self.clips[label]]


def choose_randomly(videos, quota):
    """``quota`` of ``videos``, or all of them in random order if there are fewer."""
    return random.sample(videos, min(len(videos), quota))
