"""Procedural talking heads with exact truth.

The rooms, in the order of the work:

what is asked for   settings, plans (which clip shows whom, saying what)
what is said        sentences(.txt), voices, speech (espeak_process), room, narration
who is seen         identity, colours; proportions, geometry, parts, hair, headwear (shape); painting, skin_paint (texture)
how it moves        controls (the contract between motion and picture), style, curves;
                    visemes (mouth of speech), speech_drives and head_motion (head), eyes, expressions (all other habits),
                    animation (puts them together)
how it is drawn     fields (what each control pulls), rig, landmarks, rasteriser, shading, backgrounds, renderer, dense_truth
what is written     clips (one), dataset (all), data_card

A new control goes into `controls`, gets a row in `fields` (or a function there), and somebody who moves it: a habit in
`expressions`, a gesture of speech in `visemes`, or a part of `head_motion`.
"""
