"""Downloads for ``image_url``: bounded in size, time and reach."""
