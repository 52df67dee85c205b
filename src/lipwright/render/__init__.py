"""The way of a frame: sound comes in, pictures with their own 40 ms of sound go out.

``voice`` turns sound into one feature window a frame, ``template`` gives the picture whose turn it is, ``painter``
draws the new mouth into it with the ``networks``, ``renderer`` puts both sides together, ``ahead`` lets the stages work
side by side.
"""

from lipwright.render.networks import Networks
from lipwright.render.painter import Painter, Still
from lipwright.render.renderer import Renderer, render
from lipwright.render.template import Template, Walk

__all__ = ["Networks", "Painter", "Renderer", "Still", "Template", "Walk", "render"]
