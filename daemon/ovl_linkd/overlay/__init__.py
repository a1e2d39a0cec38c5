r"""What the kernel understands: the grammar of overlay options, their limits, shorter spellings.

The heart of the product in a few lines: parse, plan, format.

>>> from ovl_linkd.overlay.limits import of_this_kernel
>>> from ovl_linkd.overlay.options import parse
>>> from ovl_linkd.overlay.shorten import Prefix, expand, plan
>>> given = parse(rb"lowerdir=/var/store/2:/var/store/a\:b,upperdir=/var/store/up,workdir=/w,ro")
>>> given.layers, given.parts[1]
(2, b'upperdir=/var/store/up')

A link as the planner sees it, and a machine whose mount(2) takes 4,095 bytes:

>>> link = Prefix("s", target=b"/var/store", short=b"/s")
>>> limits = of_this_kernel(page_size=4096)
>>> made = plan(given, [link], limits)
>>> made.options
b'lowerdir=/s/2:/s/a\\:b,upperdir=/s/up,workdir=/w,ro'
>>> made.strategy, made.before, made.after, made.limit, made.fits
('link', 74, 50, 4095, True)
>>> expand(made.options, [link]) == given.format()
True

What can't be made to fit is never handed out, and says why:

>>> made = plan(given, [link], limits, limit=46, limit_of="my buffer")
>>> made.options, made.fits
(b'', False)
>>> made.reason.split(": ")
['4 bytes too long even through the link', '50 bytes, my buffer takes 46; 1 of 2 layers would fit']
>>> made.remedy
'mount at most 1 layer of this length, or merge some'
"""
