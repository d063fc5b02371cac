"""Procedural talking heads with exact truth.

The rooms, in the order of the work:

what is asked for   settings, plans (which clip shows whom, saying what)
who is seen         identity; mesh/ (shape), paint/ (texture, light, background)
what is said        speech/: sentences.txt, voices, espeak (espeak_process), room, narration
how it moves        motion/: controls (the contract between motion and picture), style, curves; visemes (mouth of speech),
                    speech_drives and head_motion (head), eyes, expressions (all other habits), animation (puts them together)
how it is drawn     mesh/fields (what each control pulls), mesh/rig, rasteriser, renderer, dense_truth
what is written     clips (one), dataset (all), data_card

A new control goes into `motion.controls`, gets a row in `mesh.fields` (or a function there), and somebody who moves it: a
habit in `motion.expressions`, a gesture of speech in `motion.visemes`, or a part of `motion.head_motion`.
"""
