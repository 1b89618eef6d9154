"""What to know of the splits behind a result: do test clips share their source videos with training clips?"""

from utils.published import SHARED_IN_RELEASE


def notes_on_splits(groups):
    """A line for each row with shared videos, and for each without where the released splits have them."""
    for name, runs in groups:
        share = max(run.get("test_clips_sharing_videos") or 0 for run in runs)
        told = all("test_clips_sharing_videos" in run for run in runs)
        released = SHARED_IN_RELEASE.get(runs[0]["arguments"]["dataset"], 0)
        if share:
            yield f"{name}: {100 * share:.1f} % of the test clips share their source video with training clips"
        elif told and released:
            yield (
                f"{name}: splits without shared source videos; in the released splits {100 * released:.1f} % of the"
                " test clips share theirs with training clips"
            )
